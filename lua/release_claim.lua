-- release_claim: releases that are due, a token each. A right under a member ends with the claim.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> members lost due releases
-- ARGV[2]  limit     int    at most so many, 1 to 200
-- ARGV[3]  claim     int    ms of a claim
-- ARGV[4]  prefer    int    ms for which only the home node, if it is a valid member, may claim
-- Returns  next due (scope clock, ms; 0: none), then a group per release: client, upto, reason, adapter, token
-- Status   DATA_LOST | FENCED | LATE | CLAIMED
-- Retry    safe: a claim whose reply was lost runs out and comes due again
-- Durable  claim
-- Cost     O(limit x (members + lost owners))
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include registration
--- @include view
--- @include rights
--- @include release
--- @include claim_all
--- @include waiting_home
local PAGE, PAGES_MAX, PUT_BACK_MS = 200, 3, 100
local limit, claim_ms, prefer = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)
keep_clock(scope)

local members, next_at = {}, math.huge -- members: owner -> whether it is valid, looked up once

local function ask_again(at)
  next_at = math.min(next_at, at)
end

local function is_valid(owner)
  if members[owner] == nil then
    local lease = redis.call('ZSCORE', prefix .. 'members', owner)
    members[owner] = lease ~= false and tonumber(lease) > scope.clock
      and redis.call('HEXISTS', prefix .. 'node:' .. owner, 'fenced') == 0
  end
  return members[owner]
end

-- Whether a disconnect waits for the end of the period: its client may still reclaim, or died with its node.
local lost = {}
local function is_waiting(reg, on_roster)
  if not scope.active or on_roster or not reg then return on_roster end
  if lost[reg.owner] == nil then lost[reg.owner] = redis.call('SISMEMBER', prefix .. 'lost', reg.owner) == 1 end
  return lost[reg.owner]
end

local claims, put_back = {}, {}

-- Takes what it may of a page of due releases; returns how many there were.
local function take(offset)
  local page = redis.call('ZRANGEBYSCORE', prefix .. 'due', '-inf', scope.clock, 'WITHSCORES', 'LIMIT', offset,
    PAGE)
  local clients, due = {}, {}
  for i = 1, #page, 2 do clients[#clients + 1], due[#due + 1] = page[i], tonumber(page[i + 1]) end
  local roster_of = rights_on_rosters(scope, clients)
  for i, entry in ipairs(releases_of(clients)) do
    local client, reg = clients[i], registration(clients[i])
    local home_until = reg and reg.owner ~= scope.owner and is_valid(reg.owner) and due[i] + prefer or 0
    local wait = waiting_home(scope, reg)
    if entry.reason == 'disconnect' and not entry.claimed and is_waiting(reg, roster_of[client]) then
      read_view(scope)
      wait = scope.cap -- back to the period's end, where the drain takes it over
    end
    if home_until > scope.clock then
      ask_again(home_until)
    elseif wait > 0 then
      put_back[#put_back + 1], put_back[#put_back + 2] = math.max(wait, scope.clock + PUT_BACK_MS), client
    elseif #claims == limit then
      ask_again(scope.clock)
    else
      claims[#claims + 1] = { client = client, entry = entry, reg = reg }
    end
  end
  return #clients
end

-- What is left to others for now must not hide what is the caller's own: some pages of it are passed over.
local pages, full = 0, true
while full and #claims < limit and #put_back == 0 and pages < PAGES_MAX do
  full = take(pages * PAGE) == PAGE
  pages = pages + 1
end
if #put_back > 0 then redis.call('ZADD', prefix .. 'due', unpack(put_back)) end
if #put_back > 0 or (full and #claims > 0) then ask_again(scope.clock) end

-- Where the rights of these clients are; of one without a record it may be any member.
local clients = {}
for i, claim in ipairs(claims) do clients[i] = claim.client end
local owner_of, generation_of = rights_under(clients, redis.call('ZRANGE', prefix .. 'members', 0, -1))
for _, claim in ipairs(claims) do
  local right = generation_of[claim.client]
  if right and right <= claim.entry.upto then claim.right = owner_of[claim.client] end
end
claim_all(scope, claims, claim_ms)

local claimed = {}
for i, claim in ipairs(claims) do
  claimed[i] = { claim.client, claim.entry.upto, claim.entry.reason, claim.reg and claim.reg.adapter or '',
    claim.token }
end
local later = redis.call('ZRANGEBYSCORE', prefix .. 'due', '(' .. int(scope.clock), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if later[2] then ask_again(tonumber(later[2])) end
if next_at == math.huge then next_at = 0 end
return reply(scope, 'CLAIMED', next_at, unpack(claimed))
