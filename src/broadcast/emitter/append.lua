-- Append a batch of events to the log, each exactly once, in the producer's order.
--
-- KEYS  1 the stream   2 the log's hash (epoch, maxlen)   3 this producer's last appended seq
-- ARGV  1 producer     2 seq of the first event           3 the pub/sub channel
--       4 maxlen where the log's hash names none          5 an epoch, should the log have none yet
--       6 how long the producer's seq is kept, ms         7 "1": append though earlier events are missing
--       8… the events' JSON, each an object with five fields
--
-- Returns {stored seq, epoch, failed publishes, error or ""}.
-- * A repeat is recognised: events up to the stored seq are skipped.
-- * If the stored seq is behind the batch's first, Redis has lost what lay between: nothing is appended, and the
--   caller sees where to begin again (unless it says with ARGV 7 that it cannot).
-- * Lua does not roll back. Every call is a pcall, and what was reached is stored and told.
-- With no events at all it only answers, and keeps the seq from expiring.

local stream, log, mine = KEYS[1], KEYS[2], KEYS[3]
local producer, first, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ttl_ms, fill_hole = ARGV[6], ARGV[7] == "1"

local stored = redis.pcall("GET", mine)
if type(stored) == "table" and stored.err then return {0, "", 0, stored.err} end
local seq = tonumber(stored or "0") or 0

local head = redis.pcall("HMGET", log, "epoch", "maxlen")
if head.err then return {seq, "", 0, head.err} end
local epoch, maxlen = head[1], head[2] or ARGV[4]
if not epoch then
  epoch = ARGV[5]
  local made = redis.pcall("HSET", log, "epoch", epoch)
  if type(made) == "table" and made.err then return {seq, "", 0, made.err} end
end

if seq < first - 1 then
  if not fill_hole then return {seq, epoch, 0, ""} end
  seq = first - 1
end

local unpublished, failure, reached = 0, "", seq
for i = 8, #ARGV do
  local this = first + i - 8
  if this > reached then
    local by = producer .. ":" .. this
    local id = redis.pcall("XADD", stream, "MAXLEN", "~", maxlen, "*", "event", ARGV[i], "by", by)
    if type(id) == "table" and id.err then failure = id.err break end
    reached = this
    -- The same JSON with its place and identity; the closing brace makes room for them.
    local told = string.sub(ARGV[i], 1, -2) .. ',"id":"' .. id .. '","by":"' .. by .. '"}'
    local heard = redis.pcall("PUBLISH", channel, told)
    if type(heard) == "table" and heard.err then unpublished = unpublished + 1 end
  end
end

local kept = redis.pcall("SET", mine, string.format("%.0f", reached), "PX", ttl_ms)
if type(kept) == "table" and kept.err and failure == "" then failure = kept.err end
return {reached, epoch, unpublished, failure}
