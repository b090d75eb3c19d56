-- Begin another epoch after Redis has lost a tail; only the first reader that sees it does.
--
-- KEYS  1 the log's hash
-- ARGV  1 the epoch the reader knows   2 the new one   3 the last id that both have in common
-- Returns the epoch that holds now.

local epoch = redis.call("HGET", KEYS[1], "epoch")
if epoch ~= ARGV[1] then return epoch end
redis.call("HSET", KEYS[1], "epoch", ARGV[2], "parent", ARGV[1], "forked_at", ARGV[3])
return ARGV[2]
