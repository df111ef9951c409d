-- node_renew: extends the caller's lease, records its ack, moves the period, and tells what there is to do. The canary
-- does not count it: a failover that lost heartbeats only has lost nothing.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> holders:<owner> wanted:<owner> members lost open grace reclaimed orphans due ended events
-- ARGV[2]  ack       int    the revision to which the caller has switched its view
-- Returns  extended (0: no, the ack is overdue), next due, 1 if orphans wait, members, releases that wait, then the
--          owners whose lease lapsed, those waited for, and what the caller is to close, as client, word, client ...
-- Status   DATA_LOST | FENCED | LATE | RENEWED
-- Retry    safe: a repeat changes nothing more
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include reply
--- @include ack
--- @include advance
--- @include waiting_for
--- @include next_due
--- @include gone_at
local WANTED_MAX = 200
local acked = tonumber(ARGV[2])

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)
keep_clock(scope)
local reached = ack(scope, acked)

-- A member that does not ack must not hold up the others for ever: its lease is not extended any more.
local node = prefix .. 'node:' .. scope.owner
local lease = tonumber(redis.call('HGET', node, 'lease'))
local extended, barrier, since = 1, 0, 0
if scope.active then
  read_period(scope)
  if scope.closing then
    barrier, since = scope.r2, scope.r2_at
  elseif scope.in_force == 0 then
    barrier, since = scope.r1, scope.r1_at
  end
end
if reached < barrier and scope.clock - since > lease then extended = 0 end
if extended == 1 then redis.call('ZADD', prefix .. 'members', scope.clock + lease, scope.owner) end
advance(scope)

local lapsed = {}
local members = redis.call('ZRANGE', prefix .. 'members', 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  if scope.clock > tonumber(members[i + 1]) and scope.clock > gone_at(members[i], members[i + 1]) then
    lapsed[#lapsed + 1] = members[i]
  end
end
return reply(scope, 'RENEWED', extended, next_due(), redis.call('EXISTS', prefix .. 'orphans'), #members / 2,
  redis.call('ZCARD', prefix .. 'due'), lapsed, pending(scope),
  redis.call('HRANDFIELD', prefix .. 'wanted:' .. scope.owner, WANTED_MAX, 'WITHVALUES') or {}) -- false on fakeredis
