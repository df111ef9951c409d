-- client_unregister: the clients are gone from here: due after their TTL, at once if it is 0.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> lost due releases events
-- ARGV[2]  claim     int    ms of a claim; 0: the caller has no callback, claim nothing
-- ARGV[3]  retention int    ms that a record outlives its disconnect
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] generation int   the registration meant; 0: whichever this owner has
-- Returns  a group per client: status, due (scope clock, ms), generation, adapter, token and reason of the claim, or
--          both empty
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | DUE | OK
-- Retry    safe: a repeat postpones nothing and answers the caller's own claim again
-- Durable  claim
-- Cost     O(clients x lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include registration
--- @include record
--- @include enqueue
local claim_ms, retention = tonumber(ARGV[2]), tonumber(ARGV[3])
local FIRST, GROUP = 4, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)
keep_clock(scope)

local roster_of = {}
if scope.active then
  --- @include rights
  local clients = {}
  for i = FIRST, #ARGV, GROUP do clients[#clients + 1] = ARGV[i] end
  roster_of = rights_on_rosters(scope, clients)
end
local answers, queued, leaving = {}, {}, {}

-- Answers, and the registration if it is over. A client whose right is on a roster has not given that up: its
-- disconnect waits for the end of the period at the least.
local function unregister(client, generation)
  local reg = registration(client)
  if not reg then return { 'UNKNOWN' } end
  if reg.owner ~= scope.owner or (generation > 0 and generation ~= reg.generation) then
    return { 'MOVED', 0, reg.generation }
  end
  if reg.state == 'live' or reg.state == 'yielded' then
    reg.state, reg.due = 'leaving', scope.clock + reg.ttl
    local at, record = reg.due, prefix .. 'client:' .. client
    if roster_of[client] then
      --- @include view
      read_view(scope)
      at = math.max(at, scope.cap)
    end
    if at > scope.clock then
      reg.state = 'deferred'
      redis.call('PEXPIRE', record, at - scope.clock + retention)
    end
    redis.call('HSET', record, STATE, reg.state, DUE, reg.due)
    queued[#queued + 1] = { client = client, upto = reg.generation, reason = 'disconnect', at = at }
    reg.due = at
  elseif reg.state == 'revoked' then -- its home, which is the caller, has closed it
    reg.state, reg.due = 'leaving', scope.clock
    redis.call('HSET', prefix .. 'client:' .. client, STATE, 'leaving', DUE, scope.clock)
    queued[#queued + 1] = { client = client, upto = reg.generation, reason = 'revoked', at = scope.clock }
  end
  return { 'DUE', reg.due, reg.generation, reg.adapter, '', '' }, reg
end

for i = FIRST, #ARGV, GROUP do
  local answer, reg = unregister(ARGV[i], tonumber(ARGV[i + 1]))
  answers[#answers + 1] = answer
  if reg and reg.state == 'leaving' then leaving[#leaving + 1] = { client = ARGV[i], reg = reg, answer = answer } end
end
enqueue(queued)

-- What is due at once is claimed for the caller, or was before and is answered again; else the others are told.
if claim_ms == 0 and #leaving > 0 then
  --- @include event
  event(scope, 'due')
elseif #leaving > 0 then
  --- @include release
  --- @include claim_all
  local due, claims, seen = {}, {}, {}
  for i, one in ipairs(leaving) do due[i] = one.client end
  for i, entry in ipairs(releases_of(due)) do
    local one = leaving[i]
    -- Else another release is under way; its acknowledgement arms this one.
    local is_its_own = entry and one.reg.generation <= entry.upto
    if is_its_own and entry.claimed and entry.claimant == scope.owner then
      one.answer[5], one.answer[6] = entry.token, entry.reason
      redis.call('ZADD', prefix .. 'due', scope.clock + claim_ms, one.client) -- it lasts as long as a new one
    elseif is_its_own and not entry.claimed then
      if not seen[one.client] then
        one.entry, one.right = entry, scope.owner
        seen[one.client], claims[#claims + 1] = one, one
      end
      one.claim = seen[one.client]
    end
  end
  claim_all(scope, claims, claim_ms)
  for _, one in ipairs(leaving) do
    if one.claim then one.answer[5], one.answer[6] = one.claim.token, one.claim.entry.reason end
  end
end
return reply(scope, 'OK', unpack(answers))
