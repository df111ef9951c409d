-- client_cancel: the clients' deferred disconnects end, as if they reconnected here; nothing to cancel is no error.
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] request   str    random per request; the same again is a repeat
-- Returns  a group per client: status, generation, previous owner, registered at, 1 or 2 if it is a holder, what it has
--          left behind, as client_register
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
local FIRST, GROUP = 9, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

local moves = {}

local function cancel(client, request)
  local reg = registration(client)
  if not reg then return { 'UNKNOWN', 0, '', 0, 0 } end
  local status = 'CANCELLED'
  if reg.displaced == request then
    status = 'NOT_DEFERRED' -- the client has connected elsewhere since
  elseif reg.request ~= request and reg.state == 'deferred' then
    attach(scope, client, reg, moves)
    reg.generation, reg.state, reg.due = next_generation(scope), 'live', 0
    reg.last_seen, reg.displaced, reg.request = scope.clock, reg.request, request
    keep_registration(client, reg)
  elseif reg.request ~= request then
    status = 'NOT_DEFERRED'
  end
  return { status, reg.generation, reg.previous, reg.registered_at, reg.copied and 2 or 1, reg.left }
end

commit(scope)
local clients, answers = {}, {}
for i = FIRST, #ARGV, GROUP do
  clients[#clients + 1] = ARGV[i]
  answers[#answers + 1] = cancel(ARGV[i], ARGV[i + 1])
end
attach_all(scope, moves)
holder_here(scope, clients, answers)
keep_generations(scope)
return reply(scope, 'OK', unpack(answers))
