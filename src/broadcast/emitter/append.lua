-- Append a batch of events to the log, each exactly once, in the producer's order.
--
-- KEYS  1 the stream   2 the log's hash (epoch, maxlen)   3 this producer's last appended seq
--       4 marks: producer → when it was last heard of, by the server's clock, ms
-- ARGV  1 producer     2 seq of the first event           3 the pub/sub channel
--       4 maxlen where the log's hash names none          5 an epoch, should the log have none yet
--       6 how long the producer's seq is kept, ms         7 the seq that must be stored at the least
--       8… the events' JSON, each an object with five fields
--
-- Returns {stored seq, epoch, failed publishes, error or ""}; the seq is -1 where it could not be read.
-- * A repeat is recognised: events up to the stored seq are skipped.
-- * If the stored seq is behind ARGV 7, Redis has lost what lay between: nothing is appended, and the caller sees
--   where to begin again. What lies between ARGV 7 and ARGV 2 is a hole that the caller knows of and announces.
-- * Lua does not roll back. Every call is a pcall, and what was reached is stored and told.
-- With no events at all it only answers, and keeps the seq from expiring.

local stream, log, mine = KEYS[1], KEYS[2], KEYS[3]
local producer, first, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ttl_ms, after = ARGV[6], tonumber(ARGV[7])

local function error_of(reply)
  return type(reply) == "table" and reply.err
end

local function keep(seq)
  return error_of(redis.pcall("SET", mine, string.format("%.0f", seq), "PX", ttl_ms))
end

-- XADD refuses a maxlen that is no whole number; whoever wrote nonsense into the hash must not stop the mind.
local function usable(maxlen)
  local number = tonumber(maxlen or "")
  return number and number >= 1 and number <= 2 ^ 53 and string.format("%.0f", number)
end

-- That this producer lives. Whatever becomes of it: the bridges alone need it.
local time = redis.pcall("TIME")
if not error_of(time) then redis.pcall("ZADD", KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000), producer) end

local stored = redis.pcall("GET", mine)
if error_of(stored) then return {-1, "", 0, stored.err} end
local seq = tonumber(stored or "0")
if not (seq and seq >= 0 and seq <= 2 ^ 53) then seq = 0 end

local head = redis.pcall("HMGET", log, "epoch", "maxlen")
if error_of(head) then return {seq, "", 0, head.err} end
local epoch, maxlen = head[1], usable(head[2]) or usable(ARGV[4]) or "10000"
if not epoch then
  epoch = ARGV[5]
  local failure = error_of(redis.pcall("HSET", log, "epoch", epoch))
  if failure then return {seq, "", 0, failure} end
end

-- Written before the first XADD too: if it cannot be, every retry would append the same events again.
local failure = keep(seq)
if failure then return {seq, epoch, 0, failure} end
if seq < after then return {seq, epoch, 0, ""} end

local unpublished, reached = 0, math.max(seq, first - 1)
for i = 8, #ARGV do
  local this = first + i - 8
  if this > reached then
    local by = producer .. ":" .. string.format("%.0f", this)
    local id = redis.pcall("XADD", stream, "MAXLEN", "~", maxlen, "*", "event", ARGV[i], "by", by)
    failure = error_of(id)
    if failure then break end
    reached = this
    -- The same JSON with its place and identity; the closing brace makes room for them.
    local told = string.sub(ARGV[i], 1, -2) .. ',"id":"' .. id .. '","by":"' .. by .. '"}'
    if error_of(redis.pcall("PUBLISH", channel, told)) then unpublished = unpublished + 1 end
  end
end

if reached == first - 1 then reached = seq end
if reached > seq then failure = keep(reached) or failure end
return {reached, epoch, unpublished, failure or ""}
