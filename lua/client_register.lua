-- client_register: the clients are connected here, with a new generation each.
-- ARGV[..] client    bytes  client id            (a group of eight for each of 1 to 200 clients)
-- ARGV[..] adapter   str    the place it occupies
-- ARGV[..] limit     int    places of that adapter
-- ARGV[..] addr      bytes  remote address, for people
-- ARGV[..] ttl       int    ms that a disconnect waits
-- ARGV[..] verifier  bytes  changes when the client reboots; empty: not known
-- ARGV[..] principal bytes  who it is; empty: not known
-- ARGV[..] request   str    random per request; the same again is a repeat
-- Returns  a group per client: status, generation (or ms until a retry), previous owner, registered at, 1 if it is a
--          holder, 2 if that is an older right which the first lock here must confirm; then what it has left behind, as
--          owner=generation
-- Status   DATA_LOST | FENCED | LATE | MOVED | ADAPTER | PRINCIPAL | RELEASING | LIMIT | REGISTERED | OK
-- Retry    safe: a repeat with the same request changes nothing; MOVED if the client has connected elsewhere since
-- Durable  no
-- Cost     O(clients); of those that rebooted x (members + lost owners)
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include registration
--- @include next_generation
--- @include attach
--- @include end_right
--- @include holder_here
local FIRST, GROUP = 9, 8

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local function releasing(client, reg)
  if reg.state == 'live' then return 0 end
  local name = release.name(reg.owner, int(reg.generation), client)
  local entry = release.get(name)
  if not entry or not entry.claimed then return 0 end
  return math.max(1, tonumber(redis.call('ZSCORE', key.due, name)) - scope.clock)
end

local function registered(reg)
  return { 'REGISTERED', reg.generation, reg.previous, reg.registered_at, reg.copied and 2 or 1, reg.left }
end

local moves, taken = {}, {} -- taken: places by adapter, counted once per call
local held = {} -- holders here, of whose registration there may be no record any more

local function register(client, adapter, limit, addr, ttl, verifier, principal, request)
  local reg = registration(client)
  if reg then
    if reg.request == request and reg.owner == scope.owner then return registered(reg) end
    if reg.displaced == request then return { 'MOVED', 0, '', 0, 0 } end
    if reg.adapter ~= adapter then return { 'ADAPTER', 0, reg.adapter, 0, 0 } end
    if reg.principal ~= '' and reg.principal ~= principal then return { 'PRINCIPAL', 0, '', 0, 0 } end
    local wait = releasing(client, reg)
    if wait > 0 then return { 'RELEASING', wait, '', 0, 0 } end
  else -- one that is registered has its place
    local places = derived('adapter', adapter)
    taken[adapter] = taken[adapter] or redis.call('SCARD', places)
    if taken[adapter] >= limit and redis.call('SISMEMBER', places, client) == 0 then
      return { 'LIMIT', limit, adapter, 0, 0 }
    end
    taken[adapter] = taken[adapter] + redis.call('SADD', places, client)
  end

  if reg and reg.verifier ~= '' and verifier ~= '' and reg.verifier ~= verifier then
    end_right(scope, client, reg, 'rebooted') -- what it held before its reboot is nobody's any more
    event(scope, 'due', 'client', client)
  end
  reg = reg or { owner = scope.owner, adapter = adapter, previous = '', registered_at = scope.clock, verifier = '',
    state = 'live', left = '', copied = held[client] and 0 }
  attach(scope, client, reg, moves)
  if verifier ~= '' then reg.verifier = verifier end
  reg.generation, reg.state, reg.due, reg.ttl = next_generation(scope), 'live', 0, ttl
  reg.remote_addr, reg.principal, reg.last_seen = addr, principal, scope.clock
  reg.displaced, reg.request = reg.request or '', request
  keep_registration(client, reg)
  return registered(reg)
end

commit(scope)
local clients, answers = {}, {}
for i = FIRST, #ARGV, GROUP do clients[#clients + 1] = ARGV[i] end
held = held_under(clients, { scope.owner })
for i = FIRST, #ARGV, GROUP do
  answers[#answers + 1] = register(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4],
    ARGV[i + 5], ARGV[i + 6], ARGV[i + 7])
end
attach_all(scope, moves)
holder_here(scope, clients, answers)
keep_generations(scope)
advance(scope, false)
return reply(scope, 'OK', unpack(answers))
