-- client_cancel: the clients' deferred disconnects end, as if they reconnected here; nothing to cancel is no error.
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] request   str    random per request; the same again is a repeat
-- Returns  a group per client: status, generation, previous owner, registered at, as client_register
--          for a holder
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | NOT_DEFERRED | CANCELLED | OK
-- Retry    safe: a repeat with the same request changes nothing
-- Durable  no
-- Cost     O(clients)
--- @include begin
--- @include commit
--- @include reply
--- @include registration
--- @include next_generation
--- @include attach
--- @include holder_here
local FIRST, GROUP = 7, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local function cancel(client, request)
  local reg = registration(client)
  if not reg then return 'UNKNOWN', 0, '', 0, 0 end
  if reg.request == request then
    return 'CANCELLED', reg.generation, reg.previous, reg.registered_at, holder_here(scope, client)
  end
  if reg.state ~= 'deferred' then return 'NOT_DEFERRED', reg.generation, reg.previous, reg.registered_at, 0 end
  attach(scope, client, reg)
  if reg.owner ~= scope.owner then reg.previous = reg.owner end
  local generation = next_generation(scope)
  redis.call('HSET', derived('client', client), 'owner', scope.owner, 'generation', int(generation), 'state', 'live',
    'previous', reg.previous, 'last_seen', int(scope.clock), 'request', request, 'due', 0)
  return 'CANCELLED', generation, reg.previous, reg.registered_at, holder_here(scope, client)
end

commit(scope)
local answers = {}
for i = FIRST, #ARGV, GROUP do answers[#answers + 1] = { cancel(ARGV[i], ARGV[i + 1]) } end
keep_generations(scope)
return reply(scope, 'OK', unpack(answers))
