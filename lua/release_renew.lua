-- release_renew: the callbacks still run; their claims last longer.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> due releases
-- ARGV[2]  claim     int    ms from now
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 releases)
-- ARGV[..] token     str    token of the claim
-- Returns  a status per release
-- Status   DATA_LOST | FENCED | LATE | STALE_TOKEN | RENEWED | OK
-- Retry    safe
-- Durable  no
-- Cost     O(releases)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include release
local claim_ms = tonumber(ARGV[2])
local FIRST, GROUP = 3, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)
keep_clock(scope)
local clients, statuses = {}, {}
for i = FIRST, #ARGV, GROUP do clients[#clients + 1] = ARGV[i] end
for i, entry in ipairs(releases_of(clients)) do
  statuses[i] = 'STALE_TOKEN'
  if entry and entry.token == ARGV[FIRST + GROUP * i - 1] then
    redis.call('ZADD', prefix .. 'due', scope.clock + claim_ms, clients[i])
    statuses[i] = 'RENEWED'
  end
end
return reply(scope, 'OK', unpack(statuses))
