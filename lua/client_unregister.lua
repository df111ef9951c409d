-- client_unregister: the clients are gone from here: due after their TTL, at once if it is 0.
-- ARGV[7]  claim     int    ms of a claim; 0: the caller has no callback, claim nothing
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] generation int   the registration meant; 0: whichever this owner has
-- Returns  a group per client: status, due (scope clock, ms), generation, adapter, token of the claim or empty
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | DUE | OK
-- Retry    safe: a repeat postpones nothing and answers the caller's own claim again
-- Durable  claim
-- Cost     O(clients x (members + lost owners))
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include registration
--- @include claim_release
local claim_ms = tonumber(ARGV[7])
local FIRST, GROUP = 8, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local ended = {}

local function unregister(client, generation)
  local reg = registration(client)
  if not reg then return 'UNKNOWN', 0, 0, '', '' end
  if reg.owner ~= scope.owner or (generation > 0 and generation ~= reg.generation) then
    if reg.owner ~= scope.owner then redis.call('SREM', derived('holders', scope.owner), client) end
    return 'MOVED', 0, reg.generation, '', ''
  end
  local name = release.name(reg.owner, int(reg.generation), client)
  local at = reg.due
  if reg.state == 'live' then
    at = scope.clock + reg.ttl
    local state = 'deferred'
    if reg.ttl == 0 then state = 'leaving' end
    redis.call('HSET', derived('client', client), 'state', state, 'due', int(at))
    if reg.ttl > 0 then
      redis.call('PEXPIRE', derived('client', client), int(reg.ttl + scope.retention))
    end
    release.enqueue(name, client, at, 'disconnect')
  end
  local entry, token = release.get(name), ''
  if entry and entry.claimed and entry.claimant == scope.owner then
    token = entry.token
  elseif entry and not entry.claimed and claim_ms > 0 and reg.ttl == 0 then
    token = claim_release(scope, name, entry, reg, claim_ms, ended)
  end
  return 'DUE', at, reg.generation, reg.adapter, token
end

commit(scope)
local answers = {}
for i = FIRST, #ARGV, GROUP do
  answers[#answers + 1] = { unregister(ARGV[i], tonumber(ARGV[i + 1])) }
end
forget_right(ended)
advance(scope, false)
return reply(scope, 'OK', unpack(answers))
