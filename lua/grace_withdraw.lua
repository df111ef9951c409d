-- grace_withdraw: the caller takes back the roster that it brought from its lock store. The rights on it that were not
-- used are gone and nothing is freed: what its store has is the caller's own affair again.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> holders:<owner> members lost open grace reclaimed orphans ended events
-- ARGV[2]  node      str    the caller's node name
-- Returns  how many rights were taken back
-- Status   DATA_LOST | FENCED | LATE | WITHDRAWN
-- Retry    safe: a repeat takes back nothing more
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include restored
--- @include advance
local node = ARGV[2]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
read_view(scope)

commit(scope)
keep_clock(scope)
local roster = restored_roster(node, scope.active and scope.epoch or scope.epoch + 1)
local holders = prefix .. 'holders:' .. roster
local count = redis.call('HLEN', holders)
redis.call('UNLINK', holders)
redis.call('SREM', prefix .. 'lost', roster)
scope.lost = nil
forget_roster(roster)
advance(scope)
return reply(scope, 'WITHDRAWN', count)
