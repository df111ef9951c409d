-- node_leave: a planned end. The caller has invalidated its view and finished or undone what it was granting.
-- With rights it becomes a lost owner at once (planned failover), without any it goes silently.
-- KEYS[1]  meta      hash   meta
-- Uses     meta node:<owner> clients:<owner> holders:<owner> wanted:<owner> members lost open grace reclaimed forfeited
--          orphans ended events
-- Returns  1 if it became a lost owner or an orphan now, 0 if it stays a member with a lapsed lease until the lift
-- Status   DATA_LOST | FENCED | LATE | LEFT
-- Retry    safe: the repeat is FENCED(left)
-- Durable  no
-- Cost     O(members + lost owners)
--- @include begin
--- @include now
--- @include commit
--- @include reply
--- @include advance
--- @include lose_owner
--- @include lapse
local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
now(scope)

commit(scope)
keep_clock(scope)
local gone = 1
if lose_later(scope, scope.owner) > 0 then
  gone = 0
  redis.call('HSETNX', prefix .. 'node:' .. scope.owner, 'fenced', 'left')
  lapse(scope, scope.owner)
else
  lose_owner(scope, scope.owner, 'left', 'hand-off')
end
event(scope, 'left_node', 'owner', scope.owner)
advance(scope)
return reply(scope, 'LEFT', gone)
