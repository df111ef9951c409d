-- start_period: a roster starts a period or joins the one that is active. The caller asked start_later before.
-- length: this roster's grace, bound: 2L + M of its owner, both in ms.
--- @include scope
--- @include int
--- @include transition
local function start_period(scope, roster, length, bound, reason)
  if scope.state == 'active' then
    if roster ~= '' then
      if redis.call('SADD', key.lost, roster) == 0 then return end
    end
    scope.length = math.max(scope.length, length)
    redis.call('HSET', key.grace, 'length', int(scope.length))
    if scope.in_force > 0 then
      scope.reclaim_until = math.max(scope.reclaim_until, scope.clock + length)
      redis.call('HSET', key.grace, 'reclaim_until', int(scope.reclaim_until))
    end
    transition(scope, 'joined', 'owner', roster, 'reason', reason)
    return
  end
  -- Its barrier waits for every member, each with a lease of its own.
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    local node = redis.call('HMGET', derived('node', member), 'lease', 'margin')
    bound = math.max(bound, 2 * tonumber(node[1] or 0) + tonumber(node[2] or 0))
  end
  scope.epoch = redis.call('HINCRBY', key.meta, 'epoch', 1)
  scope.state, scope.reason, scope.started, scope.r1_at = 'active', reason, scope.clock, scope.clock
  scope.in_force, scope.reclaim_until, scope.r2 = 0, 0, 0
  scope.length, scope.bound, scope.cap = length, bound, scope.clock + bound + 2 * length
  redis.call('UNLINK', key.reclaimed)
  if roster ~= '' then redis.call('SADD', key.lost, roster) end
  transition(scope, 'start', 'owner', roster, 'reason', reason)
  scope.r1 = scope.revision
  redis.call('HSET', key.grace, 'state', 'active', 'epoch', int(scope.epoch), 'started', int(scope.started),
    'r1', int(scope.r1), 'r1_at', int(scope.r1_at), 'in_force', 0, 'reclaim_until', 0, 'cap', int(scope.cap),
    'r2', 0, 'r2_at', 0, 'length', int(length), 'bound', int(bound), 'reason', reason)
end
