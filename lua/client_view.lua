-- client_view: the records of clients. Changes nothing.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> lost
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  a group per client, empty when there is no record: owner, generation, adapter, state, ttl, remote address,
--          registered at, last seen, 1 if it is a holder of its owner, 2 if it is on a roster
-- Status   DATA_LOST | FENCED | LATE | VIEW
-- Retry    safe
-- Durable  no
-- Cost     O(clients x lost owners)
--- @include begin
--- @include now
--- @include reply
--- @include registration
--- @include record
--- @include rights
local FIRST = 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
local clients, answers = {}, {}
for i = FIRST, #ARGV do clients[#clients + 1] = ARGV[i] end
local roster_of = rights_on_rosters(scope, clients)
for i, client in ipairs(clients) do
  local reg = registration(client)
  answers[i] = {}
  if reg then
    local holder = roster_of[client] and 2 or redis.call('HEXISTS', prefix .. 'holders:' .. reg.owner, client)
    local more = redis.call('HMGET', prefix .. 'client:' .. client, ADDR, SEEN)
    answers[i] = { reg.owner, reg.generation, reg.adapter, reg.state, reg.ttl, more[1] or '', tonumber(reg.since),
      tonumber(more[2] or reg.since), holder }
  end
end
return reply(scope, 'VIEW', unpack(answers))
