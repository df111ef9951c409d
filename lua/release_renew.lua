-- release_renew: the callbacks still run; their claims last longer.
-- ARGV[9]  claim     int    ms from now
-- ARGV[..] name      bytes  name of the release  (a pair for each of 1 to 200 releases)
-- ARGV[..] token     str    token of the claim
-- Returns  a status per release
-- Status   DATA_LOST | FENCED | LATE | STALE_TOKEN | RENEWED | OK
-- Retry    safe
-- Durable  no
-- Cost     O(releases)
--- @include begin
--- @include commit
--- @include reply
--- @include release
local claim_ms = tonumber(ARGV[9])
local FIRST, GROUP = 10, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

commit(scope)
local statuses = {}
for i = FIRST, #ARGV, GROUP do
  local name, token = ARGV[i], ARGV[i + 1]
  local entry = release.get(name)
  if entry and entry.token == token then
    redis.call('ZADD', key.due, int(scope.clock + claim_ms), name)
    statuses[#statuses + 1] = 'RENEWED'
  else
    statuses[#statuses + 1] = 'STALE_TOKEN'
  end
end
return reply(scope, 'OK', unpack(statuses))
