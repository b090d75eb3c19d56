-- Put a copy of the stream, which was made beside it, in its place.
--
-- KEYS  1 the stream   2 the copy   3 the log's hash
-- ARGV  1 the last id that was copied   2 the epoch that was copied   3 the number of erasures before
--
-- Returns what is wrong, or "". Ids, counts, and what is trimmed stay as they are, so no cursor notices.

local stream, copy, log = KEYS[1], KEYS[2], KEYS[3]

-- Another log, or another erasure that came first: what was copied is not what is here.
local head = redis.call("HMGET", log, "epoch", "erasures")
if (head[1] or "") ~= ARGV[2] or (head[2] or "0") ~= ARGV[3] then return "changed" end

local function facts(of)
  local found, reply = {}, redis.call("XINFO", "STREAM", of)
  for i = 1, #reply, 2 do found[reply[i]] = reply[i + 1] end
  return found
end

for _, entry in ipairs(redis.call("XRANGE", stream, "(" .. ARGV[1], "+")) do
  redis.call("XADD", copy, entry[1], unpack(entry[2]))
end
local now = facts(stream)
if not now["first-entry"] then return "changed" end
redis.call("XTRIM", copy, "MINID", now["first-entry"][1])
if redis.call("XLEN", copy) ~= now["length"] then return "changed" end
redis.call("XSETID", copy, now["last-generated-id"], "ENTRIESADDED", now["entries-added"],
  "MAXDELETEDID", now["max-deleted-entry-id"])
for _, flat in ipairs(redis.call("XINFO", "GROUPS", stream)) do
  local group = {}
  for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
  -- Of somebody else's reader; what it had not acknowledged is forgotten, since it may be what is erased.
  redis.call("XGROUP", "CREATE", copy, group["name"], group["last-delivered-id"])
end
redis.call("PERSIST", copy)
redis.call("RENAME", copy, stream)
redis.call("HINCRBY", log, "erasures", 1)
return ""
