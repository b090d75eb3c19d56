-- Say in the log which producers have come and gone. Run by every bridge now and then; being one script, of any number
-- of bridges exactly one says it.
--
-- KEYS  1 the stream   2 the log's hash (epoch, maxlen)   3 marks: producer → when it was last heard of (server's ms)
--       4 what is known of each: "new:MS" when it was first seen by a bridge, or "up"
-- ARGV  1 the channel   2 maxlen where the log's hash names none   3 the `ts` of what is said
--       4 a producer is up once its mark was renewed for so long, ms   5 and down when its mark is older than this, ms
--       6 up to which moment of the server's clock absence may be judged, ms: a server that was stopped finds this
--         script when it goes on, and everybody's marks old; 0 if it may not be judged at all
--
-- Returns the server's clock, ms, and what was said: {now, state, producer, state, producer, …}.

local stream, log, marks, known = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local channel, ts = ARGV[1], ARGV[3]
local up_after_ms, down_after_ms = tonumber(ARGV[4]), tonumber(ARGV[5])

local time = redis.call("TIME")
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local may_judge = now_ms <= tonumber(ARGV[6])
local head = redis.call("HMGET", log, "epoch", "maxlen")
if not head[1] then return {now_ms} end
local maxlen = tonumber(head[2] or "") or tonumber(ARGV[2])

-- The cycle and the day that the newest event speaks of: whoever reads along is there.
local function moment()
  local newest = redis.call("XREVRANGE", stream, "+", "-", "COUNT", 1)[1]
  for i = 1, newest and #newest[2] or 0, 2 do
    if newest[2][i] == "event" then
      local is_json, event = pcall(cjson.decode, newest[2][i + 1])
      if is_json and type(event) == "table" then return event.cycle, event.day end
    end
  end
end

local function number_or_text(value)
  local kind = type(value)
  if kind == "number" and value == math.floor(value) then return string.format("%.0f", value) end
  return kind == "string" and cjson.encode(value) or "0"
end

local said = {now_ms}
local function say(state, producer)
  local cycle, day = moment()
  local host, pid = string.match(producer, "^(.*)%-(%d+)%-%x+$")
  local event = string.format(
    '{"type":"broadcast.producer","ts":%s,"cycle":%s,"day":%s,"data":{"state":"%s","producer":%s,"host":%s,"pid":%s}}',
    cjson.encode(ts), number_or_text(cycle), number_or_text(day), state, cjson.encode(producer),
    host and cjson.encode(host) or "null", pid or "null")
  local id = redis.call("XADD", stream, "MAXLEN", "~", string.format("%.0f", maxlen), "*", "event", event)
  redis.pcall("PUBLISH", channel, string.sub(event, 1, -2) .. ',"id":"' .. id .. '"}')
  said[#said + 1], said[#said + 2] = state, producer
end

local present = redis.call("ZRANGE", marks, 0, -1, "WITHSCORES")
for i = 1, #present, 2 do
  local producer, marked_ms = present[i], tonumber(present[i + 1])
  local state = redis.call("HGET", known, producer)
  local since_ms = state and tonumber(string.match(state, "^new:(%d+)$") or "")
  if marked_ms < now_ms - down_after_ms then
    -- What was never up goes unsaid: a script of one event, a worker of a pool.
    if may_judge then
      redis.call("ZREM", marks, producer)
      redis.call("HDEL", known, producer)
      if state == "up" then say("down", producer) end
    end
  elseif not state then
    redis.call("HSET", known, producer, "new:" .. string.format("%.0f", marked_ms))
  elseif since_ms and marked_ms - since_ms >= up_after_ms then
    redis.call("HSET", known, producer, "up")
    say("up", producer)
  end
end
return said
