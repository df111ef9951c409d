-- release_claim: releases that are due, a token each. The right to reclaim ends with the claim.
-- ARGV[9]  limit     int    at most so many, 1 to 200
-- ARGV[10] claim     int    ms of a claim
-- ARGV[11] prefer    int    ms for which only the home node, if it is a valid member, may claim
-- Returns  next due (scope clock, ms; 0: none), then a group per release: name, client, owner, generation, reason,
--          adapter, token
-- Status   DATA_LOST | FENCED | LATE | CLAIMED
-- Retry    safe: a claim whose reply was lost runs out and comes due again
-- Durable  claim
-- Cost     O(limit x (members + lost owners))
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include claim_releases
--- @include closing
--- @include registration
local PAGE, PAGES_MAX, PUT_BACK_MS, CLOSING_MS = 200, 3, 100, 20
local limit, claim_ms, prefer = tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local lost, valid = {}, {} -- owners: lost ones, and which of the others are valid members, looked up once
for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do lost[owner] = true end -- bounded by LOST_MAX of start_later

local function home_first(owner, at)
  if owner == scope.owner or scope.clock >= at + prefer then return false end
  if valid[owner] == nil then
    local lease = redis.call('ZSCORE', key.members, owner)
    valid[owner] = lease ~= false and tonumber(lease) > scope.clock
      and redis.call('HEXISTS', derived('node', owner), 'fenced') == 0
  end
  return valid[owner]
end

commit(scope)
local claims, put_back, next_at = {}, {}, math.huge

local function ask_again(at)
  next_at = math.min(next_at, at)
end

-- Takes what it may of a page of due releases; returns how many there were.
local function take(offset)
  local page = redis.call('ZRANGEBYSCORE', key.due, '-inf', int(scope.clock), 'WITHSCORES', 'LIMIT', offset, PAGE)
  local found, clients = {}, {}
  for i = 1, #page, 2 do
    local one = release.parse(page[i])
    one.at = tonumber(page[i + 1])
    if home_first(one.owner, one.at) then
      ask_again(one.at + prefer)
    else
      found[#found + 1], clients[#clients + 1] = one, one.client
    end
  end
  local open, ours, names = may_confirm(scope, clients), {}, {}
  for _, one in ipairs(found) do
    if open[one.client] then
      ask_again(scope.clock + CLOSING_MS)
    elseif #claims + #ours == limit then
      ask_again(scope.clock)
    else
      ours[#ours + 1], names[#names + 1] = one, one.name
    end
  end
  for i, entry in ipairs(release.get_all(names)) do
    local one = ours[i]
    if entry.reason == 'disconnect' and not entry.claimed and lost[one.owner] then
      -- Its client may still reclaim: back to the period's end, where the orphan's drain takes it over.
      put_back[#put_back + 1] = int(math.max(scope.cap, scope.clock + PUT_BACK_MS))
      put_back[#put_back + 1] = one.name
    else
      one.entry, one.reg = entry, registration(one.client)
      claims[#claims + 1] = one
    end
  end
  return #page / 2
end

-- What is left to others for now must not hide what is the caller's own: some pages of it are passed over.
local pages, full = 0, true
while full and #claims < limit and #put_back == 0 and pages < PAGES_MAX do
  full = take(pages * PAGE) == PAGE
  pages = pages + 1
end
if #put_back > 0 then redis.call('ZADD', key.due, unpack(put_back)) end
if #put_back > 0 or (full and #claims > 0) then ask_again(scope.clock) end
claim_releases(scope, claims, claim_ms)
local claimed = {}
for i, one in ipairs(claims) do
  claimed[i] = { one.name, one.client, one.owner, one.generation, one.entry.reason, one.reg and one.reg.adapter or '',
    one.token }
end
local later = redis.call('ZRANGEBYSCORE', key.due, '(' .. int(scope.clock), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if later[2] then ask_again(tonumber(later[2])) end
if next_at == math.huge then next_at = 0 end
advance(scope, false)
return reply(scope, 'CLAIMED', next_at, unpack(claimed))
