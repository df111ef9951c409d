-- client_hold: the clients have their first lock or lease here. Durable before the first lock is answered.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> lost
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] generation int   the registration under which the lock is granted
-- Returns  a status per client. GRACE: its right is on a roster, and it must reclaim before it locks anew
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | GRACE | HOLDS | OK
-- Retry    safe: a repeat changes nothing
-- Durable  hold
-- Cost     O(clients), in a period x lost owners
--- @include begin
--- @include commit
--- @include reply
--- @include record
local FIRST, GROUP = 2, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
commit(scope)

local answers, held, roster_of = {}, {}, {}
if scope.active then
  --- @include rights
  local clients = {}
  for i = FIRST, #ARGV, GROUP do clients[#clients + 1] = ARGV[i] end
  roster_of = rights_on_rosters(scope, clients)
end
for i = FIRST, #ARGV, GROUP do
  local client, generation = ARGV[i], ARGV[i + 1]
  local reg = redis.call('HMGET', prefix .. 'client:' .. client, OWNER, GENERATION, STATE)
  local status = 'HOLDS'
  if not reg[1] or reg[3] then
    status = 'UNKNOWN'
  elseif reg[1] ~= scope.owner or reg[2] ~= generation then
    status = 'MOVED'
  elseif roster_of[client] then
    status = 'GRACE'
  else
    held[#held + 1], held[#held + 2] = client, generation
  end
  answers[#answers + 1] = status
end
if #held > 0 then redis.call('HSET', prefix .. 'holders:' .. scope.owner, unpack(held)) end
return reply(scope, 'OK', unpack(answers))
