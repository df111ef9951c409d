-- advance: moves the period as far as it can go: in force, close, lift (protocol, section 6). Run by every script that
-- could move it, after its own changes. The caller has called `now`.
--- @include scope
--- @include int
--- @include period
--- @include transition
--- @include waiting_for
--- @include remaining
--- @include restored
local function advance(scope)
  if not scope.active then return end
  read_period(scope)

  -- In force: the barrier of the start has passed.
  if scope.in_force == 0 and not scope.closing and scope.clock >= scope.earliest
      and #waiting_for(scope, scope.r1) == 0 then
    scope.in_force = scope.clock
    scope.reclaim_until = math.min(scope.clock + scope.length, scope.cap)
    transition(scope, 'in_force')
  end

  -- Close: early exit, deadline, cap or the operator (scope.forced). Nothing opens the period again.
  if not scope.closing then
    local early = scope.in_force > 0 and redis.call('SCARD', prefix .. 'open') == 0 and remaining() == 0
    local expired = scope.in_force > 0 and scope.clock >= scope.reclaim_until
    if early or expired or scope.clock >= scope.cap or scope.forced then
      scope.closing = true
      transition(scope, 'closing')
      scope.r2 = scope.revision
      redis.call('HSET', prefix .. 'grace', 'r2', int(scope.r2), 'r2_at', int(scope.clock))
    end
  end
  if not scope.closing or #waiting_for(scope, scope.r2) > 0 then return end

  -- Lift: what was not used is forfeited; lost owners become orphans.
  local forfeited, reclaimed = remaining(), redis.call('SCARD', prefix .. 'reclaimed')
  for _, owner in ipairs(redis.call('SMEMBERS', prefix .. 'lost')) do
    redis.call('SADD', prefix .. 'orphans', owner)
  end
  forget_open()
  redis.call('UNLINK', prefix .. 'lost')
  scope.active, scope.in_force, scope.closing, scope.reclaim_until, scope.cap = false, 0, false, 0, 0
  redis.call('HSET', prefix .. 'grace', 'r1', 0, 'r2', 0, 'last_epoch', int(scope.epoch), 'last_reason', scope.reason,
    'last_started', int(scope.started), 'last_duration', int(scope.clock - scope.started),
    'last_reclaimed', int(reclaimed), 'last_forfeited', int(forfeited))
  transition(scope, 'lift', 'reason', scope.reason, 'started', int(scope.started),
    'duration', int(scope.clock - scope.started), 'reclaimed', int(reclaimed), 'forfeited', int(forfeited))
end
