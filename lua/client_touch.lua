-- client_touch: the clients were seen now. The canary does not count it: losing it loses nothing.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> client:<id>
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  a status per client
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | TOUCHED | OK
-- Retry    safe
-- Durable  no
-- Cost     O(clients)
--- @include begin
--- @include now
--- @include reply
--- @include record
local FIRST = 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
keep_clock(scope)
local answers = {}
for i = FIRST, #ARGV do
  local record = prefix .. 'client:' .. ARGV[i]
  local owner, status = redis.call('HGET', record, OWNER), 'TOUCHED'
  if not owner then
    status = 'UNKNOWN'
  elseif owner ~= scope.owner then
    status = 'MOVED'
  else
    redis.call('HSET', record, SEEN, scope.clock)
  end
  answers[#answers + 1] = status
end
return reply(scope, 'OK', unpack(answers))
