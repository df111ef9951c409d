-- node_renew: extends the caller's lease, records its ack, moves the period, and tells what there is to do.
-- ARGV[9]  ack       int    the revision to which the caller has switched its view
-- Returns  extended (0: no, the ack is overdue), next due, 1 if orphans wait, members, releases that wait, then the
--          owners whose lease lapsed, those waited for, and clients whose entry is to be closed, each followed by up
--          to which generation
-- Status   DATA_LOST | FENCED | LATE | RENEWED
-- Retry    safe: a repeat changes nothing more
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include next_due
local CLOSING_MAX = 50 -- about so many; the next renewal tells the next ones
local acked = tonumber(ARGV[9])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end

commit(scope)
ack(scope, math.min(acked, scope.revision))
-- A member that does not ack must not hold up the others for ever: its lease is not extended any more.
local barrier, since = 0, 0
if scope.r2 > 0 then
  barrier, since = scope.r2, scope.r2_at
elseif scope.state == 'active' and scope.in_force == 0 then
  barrier, since = scope.r1, scope.r1_at
end
local extended = 1
if scope.acked < barrier and scope.clock - since > scope.lease then extended = 0 end
if extended == 1 then redis.call('ZADD', key.members, int(scope.clock + scope.lease), scope.owner) end
advance(scope, false)

local lapsed = {}
local members = redis.call('ZRANGE', key.members, 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local margin = tonumber(redis.call('HGET', derived('node', members[i]), 'margin') or 0)
  if scope.clock > tonumber(members[i + 1]) + margin then lapsed[#lapsed + 1] = members[i] end
end
local waiting = {}
if scope.r2 > 0 then
  waiting = waiting_for(scope, scope.r2)
elseif scope.state == 'active' and scope.in_force == 0 then
  waiting = waiting_for(scope, scope.r1)
end
return reply(scope, 'RENEWED', extended, next_due(), redis.call('EXISTS', key.orphans), #members / 2,
  redis.call('ZCARD', key.due), lapsed, waiting,
  redis.call('HSCAN', derived('closing', scope.owner), '0', 'COUNT', CLOSING_MAX)[2])
