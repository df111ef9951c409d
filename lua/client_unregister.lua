-- client_unregister: the clients are gone from here: due after their TTL, at once if it is 0.
-- ARGV[9]  claim     int    ms of a claim; 0: the caller has no callback, claim nothing
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
--- @include claim_releases
--- @include closing
local claim_ms = tonumber(ARGV[9])
local FIRST, GROUP = 10, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local clients, due, queued, items = {}, {}, {}, {} -- queued, items: what was made due, or deferred, by this call

-- Answers, and the release that the disconnect is.
local function unregister(client, generation)
  local reg = registration(client)
  if not reg then return { 'UNKNOWN', 0, 0, '', '' } end
  if reg.owner ~= scope.owner or (generation > 0 and generation ~= reg.generation) then
    if reg.owner ~= scope.owner then redis.call('SREM', derived('holders', scope.owner), client) end
    return { 'MOVED', 0, reg.generation, '', '' }
  end
  local name = release.name(reg.owner, int(reg.generation), client)
  if reg.state == 'live' then
    reg.state, reg.due = 'leaving', scope.clock + reg.ttl
    if reg.ttl > 0 then
      reg.state = 'deferred'
      redis.call('PEXPIRE', derived('client', client), int(reg.ttl + scope.retention))
    end
    redis.call('HSET', derived('client', client), 'state', reg.state, 'due', int(reg.due))
    queued[#queued + 1], items[#items + 1] = name, { client = client, at = reg.due, reason = 'disconnect' }
  end
  clients[#clients + 1], due[#due + 1] = client, name
  return { 'DUE', reg.due, reg.generation, reg.adapter, '' }, reg
end

commit(scope)
local answers, leaving, claims, claiming = {}, {}, {}, {}
for i = FIRST, #ARGV, GROUP do
  local answer, reg = unregister(ARGV[i], tonumber(ARGV[i + 1]))
  answers[#answers + 1] = answer
  if reg then leaving[#leaving + 1] = { answer = answer, reg = reg } end
end
release.enqueue_all(queued, items)
local open = may_confirm(scope, clients)
for i, entry in ipairs(release.get_all(due)) do
  local name, reg = due[i], leaving[i].reg
  if claim_ms == 0 or not entry then
    leaving[i].claim = nil
  elseif entry.claimed and entry.claimant == scope.owner then
    leaving[i].answer[5] = entry.token
    redis.call('ZADD', key.due, int(scope.clock + claim_ms), name) -- answered again, it lasts as long as a new one
  elseif not entry.claimed and reg.ttl == 0 and not open[clients[i]] then
    if not claiming[name] then
      claiming[name] = release.parse(name)
      claiming[name].entry, claiming[name].reg = entry, reg
      claims[#claims + 1] = claiming[name]
    end
    leaving[i].claim = claiming[name]
  end
end
claim_releases(scope, claims, claim_ms)
for _, one in ipairs(leaving) do
  if one.claim then one.answer[5] = one.claim.token end
end
advance(scope, false)
return reply(scope, 'OK', unpack(answers))
