-- client_drop: the clients hold nothing any more under this owner.
-- ARGV[9]  closed    int    1: the caller has closed their entries up to these generations, and confirms nothing more
-- ARGV[..] client    bytes  client id            (a pair for each of 1 to 200 clients)
-- ARGV[..] generation int   the registration meant; an old one takes out only the copy that a move left behind
-- Returns  a status per client
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | DROPPED | OK
-- Retry    safe: a repeat changes nothing
-- Durable  no
-- Cost     O(clients)
--- @include begin
--- @include commit
--- @include reply
--- @include registration
local closed = ARGV[9] == '1'
local FIRST, GROUP = 10, 2

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

commit(scope)
local answers, dropped, clients = {}, {}, {}
for i = FIRST, #ARGV, GROUP do
  local reg, status = registration(ARGV[i]), 'DROPPED'
  clients[#clients + 1] = ARGV[i]
  if not reg then
    status = 'UNKNOWN'
  elseif reg.owner ~= scope.owner or reg.generation ~= tonumber(ARGV[i + 1]) then
    status = 'MOVED'
  end
  -- Registered here under a newer generation: that registration may hold locks again.
  if not reg or reg.owner ~= scope.owner or status == 'DROPPED' then
    dropped[#dropped + 1] = ARGV[i]
  end
  answers[#answers + 1] = status
end
if #dropped > 0 then redis.call('SREM', derived('holders', scope.owner), unpack(dropped)) end
if closed then
  local gone = {}
  for i, generation in ipairs(redis.call('HMGET', derived('closing', scope.owner), unpack(clients))) do
    local upto = tonumber(ARGV[FIRST + GROUP * i - 1])
    if generation and tonumber(generation) <= upto then gone[#gone + 1] = clients[i] end
  end
  if #gone > 0 then redis.call('HDEL', derived('closing', scope.owner), unpack(gone)) end
end
return reply(scope, 'OK', unpack(answers))
