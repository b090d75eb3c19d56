-- Append what was posted, all of it or nothing, and with an Idempotency-Key exactly once.
--
-- KEYS  1 the stream   2 the log's hash (epoch, maxlen)   3 what was answered under this key; absent without one
-- ARGV  1 the pub/sub channel                2 maxlen where the log's hash names none
--       3 an epoch, should the log have none 4 a digest of the request
--       5 how long the answer is kept, ms    6 the producer, from the key and the digest; empty without one
--       7 which of the request's events pass: a digit for each, 1 or 0
--       8… the JSON of all of them; of a repeat, those pass that did the first time
--
-- Returns {"appended" or "conflict" or the error, ARGV 7 as it was the first time, the ids, how many of them are new}.
-- Lua does not roll back: what was reached before a failure is kept under the key, and a repeat goes on from there.

local stream, log, answer = KEYS[1], KEYS[2], KEYS[3]
local channel, digest, ttl_ms, producer, passes = ARGV[1], ARGV[4], ARGV[5], ARGV[6], ARGV[7]

local function error_of(reply)
  return type(reply) == "table" and reply.err
end

local function usable(maxlen)
  local number = tonumber(maxlen or "")
  return number and number >= 1 and number <= 2 ^ 53 and string.format("%.0f", number)
end

local ids, known_ids = {}, 0

local function answered(outcome)
  return {outcome, passes, ids, #ids - known_ids}
end

local function keep()
  if not answer then return false end
  return error_of(redis.pcall("SET", answer, digest .. "\n" .. passes .. "\n" .. table.concat(ids, " "), "PX", ttl_ms))
end

if answer then
  local known = redis.pcall("GET", answer)
  if error_of(known) then return answered(known.err) end
  if known then
    local was, had, list = string.match(known, "^(%x+)\n([01]*)\n(.*)$")
    if was ~= digest then return answered("conflict") end
    passes = had
    for id in string.gmatch(list, "%S+") do ids[#ids + 1] = id end
    known_ids = #ids
  end
end

local head = redis.pcall("HMGET", log, "epoch", "maxlen")
if error_of(head) then return answered(head.err) end
local maxlen = usable(head[2]) or usable(ARGV[2]) or "10000"
local failure = not head[1] and error_of(redis.pcall("HSET", log, "epoch", ARGV[3]))
-- Kept before the first XADD too: if it cannot be, every repeat would append the same events again.
failure = failure or keep()
if failure then return answered(failure) end

local due = {}
for at in string.gmatch(passes, "()1") do due[#due + 1] = ARGV[7 + at] end
for i = #ids + 1, #due do
  local payload = due[i]
  local id, by
  if producer == "" then
    id = redis.pcall("XADD", stream, "MAXLEN", "~", maxlen, "*", "event", payload)
  else
    by = producer .. ":" .. i
    id = redis.pcall("XADD", stream, "MAXLEN", "~", maxlen, "*", "event", payload, "by", by)
  end
  if error_of(id) then
    keep()
    return answered(id.err)
  end
  ids[#ids + 1] = id
  local told = string.sub(payload, 1, -2) .. ',"id":"' .. id .. '"' .. (by and (',"by":"' .. by .. '"') or "") .. "}"
  redis.pcall("PUBLISH", channel, told)
end
failure = keep()
return answered(failure or "appended")
