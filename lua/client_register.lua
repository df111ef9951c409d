-- client_register: the clients are connected here, with a new generation each.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> clients:<owner> holders:<owner> wanted:<owner> adapter:<name> members
--          lost open due releases ended grace events orphans reclaimed
-- ARGV[2]  repeated  int    1: an earlier attempt of this very call got no answer
-- ARGV[..] client    bytes  client id            (a group of seven for each of 1 to 200 clients)
-- ARGV[..] adapter   str    the place it occupies
-- ARGV[..] limit     int    places of that adapter
-- ARGV[..] addr      bytes  remote address, for people
-- ARGV[..] ttl       int    ms that a disconnect waits
-- ARGV[..] verifier  bytes  changes when the client reboots; empty: not known
-- ARGV[..] principal bytes  who it is; empty: not known
-- Returns  a group per client: status, generation, registered at, 1 if it is a holder here, 1 if its right is on a
--          roster and must be reclaimed. HELD: 0, its home. RELEASING: ms until a retry. LIMIT: limit, adapter
-- Status   DATA_LOST | FENCED | LATE | MOVED | ADAPTER | PRINCIPAL | RELEASING | HELD | LIMIT | REGISTERED | OK
-- Retry    safe: a repeat gives another generation, and is MOVED if the client has connected elsewhere since
-- Durable  no
-- Cost     O(clients x lost owners); of a client whose record has expired O(members)
--- @include begin
--- @include now
--- @include commit
--- @include generations
--- @include reply
--- @include registration
--- @include record
--- @include live_on
local repeated = ARGV[2] == '1'
local FIRST, GROUP = 3, 7
local RETRY_MS = 20

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)

local clients = {}
for i = FIRST, #ARGV, GROUP do clients[#clients + 1] = ARGV[i] end
local generation = generations(scope, #clients)
local wanted_here = prefix .. 'wanted:' .. scope.owner
local releases = redis.call('HMGET', prefix .. 'releases', unpack(clients))
local gone = repeated and redis.call('HMGET', wanted_here, unpack(clients)) or {}
local roster_of = {}
if scope.active then
  --- @include rights
  roster_of = rights_on_rosters(scope, clients)
end
local members = {} -- owner -> whether it is a member, looked up once
local taken, seated = {}, {} -- adapter -> its places that are taken, at the most; -> clients that get one of them
local new = {} -- clients without a record
local wanted, moves, rebooted = {}, {}, {}

local function is_member(owner)
  if members[owner] == nil then
    members[owner] = owner == scope.owner or redis.call('ZSCORE', prefix .. 'members', owner) ~= false
  end
  return members[owner]
end

local function seat()
  for adapter, those in pairs(seated) do redis.call('SADD', prefix .. 'adapter:' .. adapter, unpack(those)) end
  seated = {}
end

-- Whether there is a place for a client without a record: it may have kept one.
local function has_place(client, adapter, limit)
  local places = prefix .. 'adapter:' .. adapter
  local count = taken[adapter] or redis.call('SCARD', places)
  if count >= limit then -- counted anew: some of this call may have kept theirs
    seat()
    count = redis.call('SCARD', places)
    if count >= limit and redis.call('SISMEMBER', places, client) == 0 then return false end
  end
  taken[adapter], seated[adapter] = count + 1, seated[adapter] or {}
  table.insert(seated[adapter], client)
  return true
end

local function ask_home(owner, client, word)
  wanted[owner] = wanted[owner] or {}
  table.insert(wanted[owner], client)
  table.insert(wanted[owner], word)
end

-- Whether the client may be taken from another member at once; else that is asked to close it first.
local function is_free(client, reg)
  if reg.state ~= 'live' or reg.owner == scope.owner or not is_member(reg.owner) then return true end
  -- An admission counts after its period too: its server may be between check and insert still.
  if reg.admitted or redis.call('HEXISTS', prefix .. 'holders:' .. reg.owner, client) == 1 then
    ask_home(reg.owner, client, 'yield')
    return false
  end
  ask_home(reg.owner, client, 'gone')
  return true
end

-- ms until the release that this registration ended with is done; 0: there is none under way.
local function releasing(client, reg)
  if reg.state == 'live' or reg.state == 'yielded' then return 0 end
  if reg.state == 'revoked' and reg.owner ~= scope.owner and is_member(reg.owner) then return RETRY_MS end
  --- @include release
  local entry = releases_of({ client })[1]
  if not entry or not entry.claimed or reg.generation > entry.upto then return 0 end
  return math.max(1, tonumber(redis.call('ZSCORE', prefix .. 'due', client)) - scope.clock)
end

local function reboot(client, reg)
  if is_member(reg.owner) then redis.call('HDEL', prefix .. 'holders:' .. reg.owner, client) end
  if roster_of[client] then
    redis.call('HDEL', prefix .. 'holders:' .. roster_of[client], client)
    roster_of[client] = nil
  end
  rebooted[#rebooted + 1] = { client = client, upto = reg.generation, reason = 'rebooted', at = scope.clock }
end

-- A release without a record: its record has expired. A disconnect that nobody has claimed is cancelled, as ever, if
-- the client comes back for a right on a roster. Else what the release frees must not live on beside a new right.
local function end_expired(client)
  --- @include rights
  --- @include release
  --- @include unqueue
  local entry, roster = releases_of({ client })[1], roster_of[client]
  if roster and entry.reason == 'disconnect' and not entry.claimed then return unqueue({ client }) end
  if roster and tonumber(redis.call('HGET', prefix .. 'holders:' .. roster, client)) > entry.upto then return end
  local owner = roster or rights_under({ client }, redis.call('ZRANGE', prefix .. 'members', 0, -1))[client]
  if owner then redis.call('HDEL', prefix .. 'holders:' .. owner, client) end
  roster_of[client] = nil
end

-- The registration goes on here; what it was is taken over. Returns when it was first made, and 1 for a holder.
local function take_over(client, reg, verifier)
  if reg.verifier and verifier ~= '' and reg.verifier ~= verifier then
    reboot(client, reg) -- what it held before its reboot is nobody's any more
  elseif reg.state == 'revoked' then -- closed by its home, which asks, or gone
    rebooted[#rebooted + 1] = { client = client, upto = reg.generation, reason = 'revoked', at = scope.clock }
  end
  if reg.admitted and roster_of[client] then -- it may have reclaimed some under its old registration
    redis.call('HSET', prefix .. 'holders:' .. roster_of[client], client, reg.generation)
  end
  local holder = live_on(scope, client, reg, generation, is_member(reg.owner), moves)
  redis.call('DEL', prefix .. 'client:' .. client)
  return reg.since, holder
end

local function register(client, adapter, limit, addr, ttl, verifier, principal, was_taken, is_released)
  local reg = registration(client)
  local record, since, holder = prefix .. 'client:' .. client, scope.clock, 0
  if reg then
    if was_taken and reg.owner ~= scope.owner then return { 'MOVED' } end
    if reg.adapter ~= adapter then return { 'ADAPTER' } end
    local more = redis.call('HMGET', record, PRINCIPAL, VERIFIER, ADMITTED)
    reg.verifier, reg.admitted = more[2], more[3]
    if more[1] and more[1] ~= principal then return { 'PRINCIPAL' } end
    local wait = releasing(client, reg)
    if wait > 0 then return { 'RELEASING', wait } end
    if not is_free(client, reg) then return { 'HELD', 0, reg.owner } end
  elseif has_place(client, adapter, limit) then
    new[#new + 1] = client
    if is_released then end_expired(client) end
  else
    return { 'LIMIT', limit, adapter }
  end
  generation = generation + 1
  if reg then
    since, holder = take_over(client, reg, verifier)
    if verifier == '' then verifier = reg.verifier or '' end
  end
  redis.call('HSET', record, OWNER, scope.owner, GENERATION, generation, ADAPTER, adapter, TTL, ttl, ADDR,
    addr, SINCE, since)
  if reg then redis.call('HSET', record, SEEN, scope.clock) end
  if verifier ~= '' then redis.call('HSET', record, VERIFIER, verifier) end
  if principal ~= '' then redis.call('HSET', record, PRINCIPAL, principal) end
  return { 'REGISTERED', generation, tonumber(since), holder, roster_of[client] and 1 or 0 }
end

local answers = {}
for i = FIRST, #ARGV, GROUP do
  local number = #answers + 1
  answers[number] = register(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4], ARGV[i + 5],
    ARGV[i + 6], gone[number], releases[number])
end
seat()
if #new > 0 then redis.call('SADD', prefix .. 'clients:' .. scope.owner, unpack(new)) end
redis.call('HDEL', wanted_here, unpack(clients))
if next(wanted) then
  --- @include want
  want(scope, wanted)
end
note_moves(scope, moves)
if #rebooted > 0 then
  --- @include enqueue
  --- @include event
  --- @include advance
  enqueue(rebooted)
  event(scope, 'due')
  advance(scope)
end
return reply(scope, 'OK', unpack(answers))
