-- release_renew: the callback still runs; the claim lasts longer.
-- ARGV[7]  name      bytes  name of the release
-- ARGV[8]  token     str    token of the claim
-- ARGV[9]  claim     int    ms from now
-- Returns  nothing
-- Status   DATA_LOST | FENCED | LATE | STALE_TOKEN | RENEWED
-- Retry    safe
-- Durable  no
-- Cost     O(1)
--- @include begin
--- @include commit
--- @include reply
--- @include release
local name, token, claim_ms = ARGV[7], ARGV[8], tonumber(ARGV[9])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local entry = release.get(name)
if not entry or entry.token ~= token then return reply(scope, 'STALE_TOKEN') end

commit(scope)
redis.call('ZADD', key.due, int(scope.clock + claim_ms), name)
return reply(scope, 'RENEWED')
