-- client_view: the records of clients. Changes nothing but the clock.
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  a group per client, empty when there is no record: owner, generation, adapter, state, ttl, remote address,
--          registered at, last seen, 1 if it is a holder of a member, 2 if it is on a roster
-- Status   DATA_LOST | FENCED | LATE | VIEW
-- Retry    safe
-- Durable  no
-- Cost     O(clients x (members + lost owners))
--- @include begin
--- @include reply
--- @include registration
--- @include held_under
local FIRST = 9

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local clients, answers = {}, {}
for i = FIRST, #ARGV do clients[#clients + 1] = ARGV[i] end
local held = held_under(clients, redis.call('ZRANGE', key.members, 0, -1))
local expected = held_under(clients, redis.call('SMEMBERS', key.lost)) -- bounded by LOST_MAX of start_later
for _, client in ipairs(clients) do
  local reg = registration(client)
  if reg then
    local holder = 0
    if held[client] then holder = 1 end
    if expected[client] then holder = 2 end
    answers[#answers + 1] = { reg.owner, reg.generation, reg.adapter, reg.state, reg.ttl, reg.remote_addr,
      reg.registered_at, reg.last_seen, holder }
  else
    answers[#answers + 1] = {}
  end
end
return reply(scope, 'VIEW', unpack(answers))
