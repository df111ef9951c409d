-- grace_start: the caller brings the clients that it finds in its lock store, on a roster of its own. First it opens
-- the roster (no epoch, no clients), then it reads its store, then it brings the clients; the last call completes the
-- roster. A period starts with the first client that is added. In a normal scope a roster that adds nobody changes
-- nothing. An earlier incarnation of the caller's node that is superseded and has rights is waited for by this period.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> members lost open grace reclaimed forfeited ended releases
--          orphans events
-- ARGV[2]  node      str    the caller's node name
-- ARGV[3]  epoch     int    that of the roster that was opened; 0: open it
-- ARGV[4]  more      int    1: further calls follow, the roster stays open
-- ARGV[5]  if_empty  str    wait or skip: what a roster on which no client was asked for means
-- ARGV[6]  reason    bytes   for people
-- ARGV[..] client    bytes  0 to 200 client ids
-- Returns  for LATER the ms after which to ask again; else the epoch (0: none was started), then a status per client.
--          STALE_EPOCH: the roster is not open any more: open it and read the store again
-- Status   DATA_LOST | FENCED | LATE | STALE_EPOCH | LATER | EXPECTED | LIVE | FORFEITED | STARTED
-- Retry    safe: a repeat adds nothing; that of the last call is STALE_EPOCH
-- Durable  no
-- Cost     O(clients x (members + lost owners + orphans))
--- @include begin
--- @include now
--- @include commit
--- @include generations
--- @include reply
--- @include registration
--- @include rights
--- @include release
--- @include restored
--- @include start_later
--- @include start_period
--- @include advance
local node, epoch, more, if_empty, reason = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5], ARGV[6]
local FIRST = 7

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
read_view(scope)
local present = scope.active and scope.epoch or scope.epoch + 1
local roster = restored_roster(node, present)
local figures = redis.call('HMGET', prefix .. 'node:' .. scope.owner, 'grace', 'lease', 'margin')
local length, bound = tonumber(figures[1]), 2 * tonumber(figures[2]) + tonumber(figures[3])
local is_open = epoch == present and redis.call('SISMEMBER', prefix .. 'open', roster) == 1
if epoch > 0 and not is_open then return reply(scope, 'STALE_EPOCH') end
local known = redis.call('SISMEMBER', prefix .. 'lost', roster) == 1
local later = start_later(scope, length)
if known and not scope.closing then later = 0 end
if later > 0 then return reply(scope, 'LATER', later) end

commit(scope)
local record = prefix .. 'node:' .. roster
if epoch == 0 then
  -- What a client registers from now on has a newer generation: forfeiting this roster frees nothing of it.
  local start = generations(scope, 1)
  redis.call('HSETNX', record, 'generation', start)
  redis.call('HSET', record, 'owner', scope.owner)
  redis.call('SADD', prefix .. 'open', roster)
  redis.call('SADD', prefix .. 'ended', '') -- no client's id: the set is there from now on
  return reply(scope, 'STARTED', present)
end
keep_clock(scope)

local clients, words, added = {}, {}, {}
for i = FIRST, #ARGV do clients[#clients + 1] = ARGV[i] end
local superseded, others, waits = {}, {}, false
for _, owner in ipairs(redis.call('ZRANGE', prefix .. 'members', 0, -1)) do
  if owner ~= scope.owner and string.match(owner, '^(.*):%d+$') == node then
    superseded[#superseded + 1] = owner
    waits = waits or redis.call('HLEN', prefix .. 'holders:' .. owner) > 0
  else
    others[#others + 1] = owner
  end
end
if #clients > 0 then
  local start = tonumber(redis.call('HGET', record, 'generation'))
  local live = rights_under(clients, others)
  local expected, until_now = rights_on_rosters(scope, clients)
  local own = rights_under(clients, superseded)
  local orphans, is_orphan = redis.call('SMEMBERS', prefix .. 'orphans'), {} -- drained at once
  for _, owner in ipairs(orphans) do is_orphan[owner] = true end
  local undrained = rights_under(clients, orphans)
  local reclaimed = scope.active and redis.call('SMISMEMBER', prefix .. 'reclaimed', unpack(clients)) or {}
  local ended = redis.call('SMISMEMBER', prefix .. 'ended', unpack(clients))
  local releases = releases_of(clients)
  -- After lost data Redis may remember an older life of a client than its locks are of: what the store has counts.
  local is_told_anew = redis.call('SISMEMBER', prefix .. 'open', 'unknown') == 1
  local revoked = is_told_anew and redis.call('SMISMEMBER', prefix .. 'forfeited', unpack(clients)) or {}
  for i, client in ipairs(clients) do
    local reg = registration(client)
    local upto = start
    if reg and redis.call('ZSCORE', prefix .. 'members', reg.owner) then
      upto = math.min(start, reg.generation - 1) -- what it has locked under its present registration is no leftover
    end
    if expected[client] or own[client] then
      words[i] = 'EXPECTED'
      if is_told_anew and expected[client] and upto > until_now[client] then
        redis.call('HSET', prefix .. 'holders:' .. expected[client], client, upto)
      end
    elseif live[client] or reclaimed[i] == 1 then
      words[i] = 'LIVE'
    elseif revoked[i] == 1 or not is_told_anew
        and (ended[i] == 1 or releases[i] or undrained[client] or reg and is_orphan[reg.owner]) then
      words[i] = 'FORFEITED'
    else
      added[#added + 1], added[#added + 2] = client, upto
      words[i] = 'EXPECTED'
    end
  end
  redis.call('HSET', record, 'asked', 1)
end
if #added > 0 then
  start_period(scope, roster, length, bound, reason)
  redis.call('HSET', prefix .. 'holders:' .. roster, unpack(added))
end
if not more then
  local tells_nothing = redis.call('HEXISTS', record, 'asked') == 0 and if_empty == 'wait'
  if tells_nothing or waits then start_period(scope, roster, length, bound, reason) end
  if waits then -- not lost before its lease is over: until then no early exit
    for _, owner in ipairs(superseded) do redis.call('SADD', prefix .. 'open', owner) end
  end
  if redis.call('SISMEMBER', prefix .. 'lost', roster) == 0 then
    forget_roster(roster)
  elseif not tells_nothing then -- else it stays open: no early exit
    close_roster(roster)
  end
end
advance(scope)
return reply(scope, 'STARTED', scope.active and scope.epoch or 0, unpack(words))
