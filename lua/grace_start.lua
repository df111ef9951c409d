-- grace_start: the caller brings the clients of a roster of its own, found in its lock store; starts grace or joins it.
-- ARGV[9]  node      str    the caller's node name; the roster is <node>:restored:<epoch>
-- ARGV[10] more      int    1: further calls follow, the roster stays open
-- ARGV[11] if_empty  str    wait or skip: what a complete roster without clients means
-- ARGV[12] reason    str    for people
-- ARGV[13] tight     int    1: the caller holds its view tightened until this very reply
-- ARGV[14] request   str    random per request; the same again is a repeat
-- ARGV[..] client    bytes  0 to 200 client ids
-- Returns  for LATER the ms after which to ask again, else the roster, then a word per client (EXPECTED, LIVE,
--          FORFEITED)
-- Status   DATA_LOST | FENCED | LATE | LATER | STARTED
-- Retry    safe: a repeat with the same request changes nothing, after the lift too
-- Durable  no
-- Cost     O(clients x (members + lost owners))
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include start_later
--- @include start_period
--- @include held_under
--- @include next_generation
local node, more, if_empty, reason, tight = ARGV[9], ARGV[10] == '1', ARGV[11], ARGV[12], ARGV[13] == '1'
local request = ARGV[14]
local FIRST = 15

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local mine = derived('node', scope.owner)
if redis.call('HGET', mine, 'start_request') == request then return reply(scope, 'STARTED', '') end
local epoch = scope.epoch
if scope.state ~= 'active' then epoch = epoch + 1 end
local roster = node .. ':restored:' .. int(epoch)
local known = redis.call('SISMEMBER', key.lost, roster) == 1
local later = start_later(scope, scope.grace_ms)
if scope.state == 'active' and known and scope.r2 == 0 then later = 0 end
if later > 0 then return reply(scope, 'LATER', later) end

commit(scope)
redis.call('HSET', mine, 'start_request', request)
-- Open before it starts: an empty period must not be taken for one that nobody is left in.
redis.call('SADD', key.open, roster)
start_period(scope, roster, scope.grace_ms, 2 * scope.lease + scope.margin, reason)
local clients, words, added = {}, {}, {}
for i = FIRST, #ARGV do clients[#clients + 1] = ARGV[i] end
if #clients > 0 then
  local live = held_under(clients, redis.call('ZRANGE', key.members, 0, -1))
  local undrained = held_under(clients, redis.call('SMEMBERS', key.orphans))
  local expected = held_under(clients, redis.call('SMEMBERS', key.lost))
  local reclaimed = redis.call('SMISMEMBER', key.reclaimed, unpack(clients))
  local ending = redis.call('HMGET', key.ending, unpack(clients))
  for i, client in ipairs(clients) do
    if reclaimed[i] == 1 or live[client] then
      words[i] = 'LIVE'
    elseif ending[i] or undrained[client] then
      words[i] = 'FORFEITED'
    else
      if not expected[client] then added[#added + 1] = client end
      words[i] = 'EXPECTED'
    end
  end
  if #added > 0 then redis.call('SADD', derived('holders', roster), unpack(added)) end
end
local record = derived('node', roster)
if redis.call('EXISTS', record) == 0 then
  -- What a client registers from now on has a newer generation: forfeiting this roster frees nothing of it. The record
  -- stays until orphan_drain has done so.
  redis.call('HSET', record, 'generation', int(next_generation(scope)))
  keep_generations(scope)
end
if #clients > 0 then redis.call('HSET', record, 'asked', 1) end
if not more then
  if redis.call('HEXISTS', record, 'asked') == 0 and if_empty == 'wait' then redis.call('SADD', key.open, 'wait') end
  redis.call('SREM', key.open, roster)
end
advance(scope, tight)
return reply(scope, 'STARTED', roster, unpack(words))
