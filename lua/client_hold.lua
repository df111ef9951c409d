-- client_hold: the clients have their first lock or lease here. Durable before the first lock is answered.
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] generation int   the registration under which the lock is granted
-- Returns  a status per client
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | HELD | OK
-- Retry    safe: a repeat changes nothing
-- Durable  hold
-- Cost     O(clients)
--- @include begin
--- @include commit
--- @include reply
--- @include registration
local FIRST, GROUP = 9, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

commit(scope)
local answers, held = {}, {}
for i = FIRST, #ARGV, GROUP do
  local reg, status = registration(ARGV[i]), 'HELD'
  if not reg or reg.state ~= 'live' then
    status = 'UNKNOWN'
  elseif reg.owner ~= scope.owner or reg.generation ~= tonumber(ARGV[i + 1]) then
    status = 'MOVED'
  else
    held[#held + 1] = ARGV[i]
    if reg.copied then redis.call('HSET', derived('client', ARGV[i]), 'copied', '') end
  end
  answers[#answers + 1] = status
end
if #held > 0 then redis.call('SADD', derived('holders', scope.owner), unpack(held)) end
return reply(scope, 'OK', unpack(answers))
