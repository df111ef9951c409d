-- client_cancel: the clients' deferred disconnects end, or their yields, as if they reconnected here. A registration
-- that was here keeps its generation.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> clients:<owner> holders:<owner> members lost due releases events
-- ARGV[2]  own       int    1: only what is registered here: a home takes back what it yielded and nobody took
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  a group per client: status, generation, registered at, 1 if it is a holder here, 1 if its right is on a
--          roster, adapter, ttl. LIVE (it is live here): likewise. MOVED: 0, its owner
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | NOT_DEFERRED | LIVE | CANCELLED | OK
-- Retry    safe: the repeat is LIVE
-- Durable  no
-- Cost     O(clients x lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include generations
--- @include reply
--- @include registration
--- @include record
--- @include rights
--- @include live_on
local own = ARGV[2] == '1'
local FIRST = 3

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
commit(scope)

local clients = {}
for i = FIRST, #ARGV do clients[#clients + 1] = ARGV[i] end
local generation, moves = generations(scope, #clients), {}
local roster_of = rights_on_rosters(scope, clients)

local function cancel(client)
  local reg = registration(client)
  if not reg then return { 'UNKNOWN' } end
  local here = reg.owner == scope.owner
  if not here and (own or reg.state == 'live') then return { 'MOVED', 0, reg.owner } end
  local holder, status
  if reg.state == 'live' then
    holder, status = redis.call('HEXISTS', prefix .. 'holders:' .. scope.owner, client), 'LIVE'
  elseif reg.state == 'deferred' or (reg.state == 'yielded' and here) then
    if not here then -- else it goes on as it was: its server may know it by that generation
      generation = generation + 1
      reg.generation = generation
    end
    local home = here or redis.call('ZSCORE', prefix .. 'members', reg.owner) ~= false
    holder = live_on(scope, client, reg, reg.generation, home, moves)
    local record = prefix .. 'client:' .. client
    redis.call('HSET', record, OWNER, scope.owner, GENERATION, reg.generation, SEEN, scope.clock)
    redis.call('HDEL', record, STATE, DUE, ADMITTED)
    redis.call('PERSIST', record)
    status = 'CANCELLED'
  else
    return { 'NOT_DEFERRED' }
  end
  return { status, reg.generation, tonumber(reg.since), holder, roster_of[client] and 1 or 0, reg.adapter, reg.ttl }
end

local answers = {}
for i, client in ipairs(clients) do answers[i] = cancel(client) end
note_moves(scope, moves)
return reply(scope, 'OK', unpack(answers))
