-- reclaim_complete: the clients have all their locks back, here.
-- ARGV[9]  idle      int    1: nothing else is being reclaimed here and the view is held closed until this very reply
-- ARGV[..] client    bytes  1 to 200 client ids
-- Returns  rights that remain, 1 if this call lifted the period, then a status per client
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | MOVED | BARRIER | ALREADY | NOT_EXPECTED | NO_GRACE | COMPLETED | OK
-- Retry    safe: the repeat is ALREADY, which is a success, after the lift too
-- Durable  no
-- Cost     O(clients x (members + lost owners))
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include reclaim_refusal
--- @include roster_leave
local idle = ARGV[9] == '1'
local FIRST = 10

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

commit(scope)
local clients, statuses, complete, seen = {}, {}, {}, {}
for i = FIRST, #ARGV do clients[#clients + 1] = ARGV[i] end
local active, stands = scope.state == 'active', standing(scope.owner, clients)
for i, client in ipairs(clients) do
  local status, reg = seen[client], nil
  if not status then status, reg = reclaim_refusal(scope, client, stands, false) end
  if not status then
    complete[#complete + 1] = client
    redis.call('HSET', derived('client', client), 'copied', '', 'completed', int(reg.generation))
    status, seen[client] = 'COMPLETED', 'ALREADY'
  end
  statuses[i] = status
end
if #complete > 0 then
  roster_leave(complete)
  redis.call('SADD', key.reclaimed, unpack(complete))
  redis.call('SADD', derived('holders', scope.owner), unpack(complete))
end
advance(scope, idle)
local lifted = 0
if active and scope.state == 'normal' then lifted = 1 end
local left = 0
if scope.state == 'active' then left = remaining() end
return reply(scope, 'OK', left, lifted, unpack(statuses))
