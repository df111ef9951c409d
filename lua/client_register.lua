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
--          holder, 2 if that is an older right which the first lock here must confirm
-- Status   DATA_LOST | FENCED | LATE | ADAPTER | PRINCIPAL | RELEASING | LIMIT | REGISTERED | OK
-- Retry    safe: a repeat with the same request changes nothing
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
local FIRST, GROUP = 7, 8

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local function releasing(client, reg)
  if reg.state == 'live' then return 0 end
  local name = release.name(reg.owner, int(reg.generation), client)
  local entry = release.get(name)
  if not entry or not entry.claimed then return 0 end
  return math.max(1, tonumber(redis.call('ZSCORE', key.due, name)) - scope.clock)
end

local taken = {} -- places by adapter, counted once per call

local function register(client, adapter, limit, addr, ttl, verifier, principal, request)
  local reg = registration(client)
  if reg then
    if reg.request == request and reg.owner == scope.owner then
      return 'REGISTERED', reg.generation, reg.previous, reg.registered_at, holder_here(scope, client)
    end
    if reg.adapter ~= adapter then return 'ADAPTER', 0, reg.adapter, 0, 0 end
    if reg.principal ~= '' and reg.principal ~= principal then return 'PRINCIPAL', 0, '', 0, 0 end
    local wait = releasing(client, reg)
    if wait > 0 then return 'RELEASING', wait, '', 0, 0 end
  end
  local places = derived('adapter', adapter)
  taken[adapter] = taken[adapter] or redis.call('SCARD', places)
  if taken[adapter] >= limit and redis.call('SISMEMBER', places, client) == 0 then
    return 'LIMIT', limit, adapter, 0, 0
  end

  taken[adapter] = taken[adapter] + redis.call('SADD', places, client)
  local previous, since = '', scope.clock
  if reg then
    if reg.verifier ~= '' and verifier ~= '' and reg.verifier ~= verifier then
      end_right(scope, client, reg, 'rebooted') -- what it held before its reboot is nobody's any more
      event(scope, 'due', 'client', client)
    end
    if verifier == '' then verifier = reg.verifier end
    previous, since = reg.previous, reg.registered_at
    if reg.owner ~= scope.owner then previous = reg.owner end
    attach(scope, client, reg)
  else
    redis.call('SADD', derived('clients', scope.owner), client)
  end
  local generation = next_generation(scope)
  redis.call('HSET', derived('client', client), 'owner', scope.owner, 'generation', int(generation),
    'adapter', adapter, 'remote_addr', addr, 'ttl', ttl, 'registered_at', int(since), 'last_seen', int(scope.clock),
    'state', 'live', 'previous', previous, 'verifier', verifier, 'principal', principal, 'request', request, 'due', 0)
  return 'REGISTERED', generation, previous, since, holder_here(scope, client)
end

commit(scope)
local answers = {}
for i = FIRST, #ARGV, GROUP do
  answers[#answers + 1] = { register(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3], ARGV[i + 4],
    ARGV[i + 5], ARGV[i + 6], ARGV[i + 7]) }
end
keep_generations(scope)
advance(scope, false)
return reply(scope, 'OK', unpack(answers))
