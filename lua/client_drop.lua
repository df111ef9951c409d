-- client_drop: the clients hold nothing any more under this owner.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id> holders:<owner> ended
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] generation int   the registration meant
-- Returns  a status per client
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | DROPPED | OK
-- Retry    safe: a repeat changes nothing
-- Durable  no
-- Cost     O(clients)
--- @include begin
--- @include commit
--- @include reply
--- @include note_ended
--- @include record
local FIRST, GROUP = 2, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
commit(scope)

local answers, dropped = {}, {}
for i = FIRST, #ARGV, GROUP do
  local client = ARGV[i]
  local reg = redis.call('HMGET', prefix .. 'client:' .. client, OWNER, GENERATION)
  local status = 'DROPPED'
  if not reg[1] then
    status = 'UNKNOWN'
  elseif reg[1] ~= scope.owner or reg[2] ~= ARGV[i + 1] then
    status = 'MOVED' -- a newer registration may hold locks again
  end
  if status ~= 'MOVED' then dropped[#dropped + 1] = client end
  answers[#answers + 1] = status
end
if #dropped > 0 then
  redis.call('HDEL', prefix .. 'holders:' .. scope.owner, unpack(dropped))
  note_ended(dropped)
end
return reply(scope, 'OK', unpack(answers))
