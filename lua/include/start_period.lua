-- start_period: a roster starts a period or joins the one that is active. The caller asked start_later before.
-- roster: a lost owner or a restored roster; empty: data were lost, and nobody knows who held what.
-- length: this roster's grace, bound: 2L + M of its owner, both in ms.
--- @include scope
--- @include period
--- @include transition
local function start_period(scope, roster, length, bound, reason)
  if roster ~= '' and redis.call('SADD', prefix .. 'lost', roster) == 0 then return end
  scope.lost = nil
  if scope.active then
    read_period(scope)
    scope.length = math.max(scope.length, length)
    redis.call('HSET', prefix .. 'grace', 'length', scope.length)
    if scope.in_force > 0 then scope.reclaim_until = math.max(scope.reclaim_until, scope.clock + length) end
    transition(scope, 'joined', 'owner', roster, 'reason', reason)
    return
  end
  -- Its barrier waits for every member, each with a lease of its own.
  for _, member in ipairs(redis.call('ZRANGE', prefix .. 'members', 0, -1)) do
    local node = redis.call('HMGET', prefix .. 'node:' .. member, 'lease', 'margin')
    bound = math.max(bound, 2 * tonumber(node[1] or 0) + tonumber(node[2] or 0))
  end
  read_view(scope)
  scope.epoch, scope.active, scope.in_force, scope.closing = scope.epoch + 1, true, 0, false
  scope.reclaim_until, scope.cap = 0, scope.clock + bound + 2 * length
  redis.call('UNLINK', prefix .. 'reclaimed', prefix .. 'forfeited')
  transition(scope, 'start', 'owner', roster, 'reason', reason)
  scope.started, scope.r1, scope.r1_at, scope.r2, scope.r2_at = scope.clock, scope.revision, scope.clock, 0, 0
  scope.length, scope.bound, scope.reason, scope.earliest = length, bound, reason, 0
  redis.call('HSET', prefix .. 'grace', 'started', scope.started, 'r1', scope.r1, 'r1_at', scope.r1_at,
    'r2', 0, 'r2_at', 0, 'length', length, 'bound', bound, 'reason', reason, 'earliest', 0)
end
