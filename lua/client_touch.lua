-- client_touch: the clients were seen now.
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  a status per client
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | TOUCHED | OK
-- Retry    safe
-- Durable  no
-- Cost     O(clients)
--- @include begin
--- @include commit
--- @include reply
--- @include registration
local FIRST = 9

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

commit(scope)
local answers = {}
for i = FIRST, #ARGV do
  local reg, status = registration(ARGV[i]), 'TOUCHED'
  if not reg then
    status = 'UNKNOWN'
  elseif reg.owner ~= scope.owner then
    status = 'MOVED'
  else
    redis.call('HSET', derived('client', ARGV[i]), 'last_seen', int(scope.clock))
  end
  answers[#answers + 1] = status
end
return reply(scope, 'OK', unpack(answers))
