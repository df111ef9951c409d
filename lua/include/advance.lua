-- advance: moves the period as far as it can go: in force, close, lift (protocol, section 6). Run by every script that
-- could move it, after its own changes. The caller has called `now`.
--- @include view
--- @include remaining
local function is_early(scope)
  return scope.in_force > 0 and remaining(scope) == 0 and redis.call('SCARD', prefix .. 'open') == 0
end

local function advance(scope)
  if not scope.active then return end
  read_view(scope)
  if scope.in_force > 0 and scope.clock < scope.reclaim_until and not scope.closing and not scope.forced
      and not is_early(scope) then
    return -- as nearly always, so it is found out first
  end
  --- @include period
  --- @include transition
  --- @include waiting_for
  --- @include restored
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
    local expired = scope.in_force > 0 and scope.clock >= scope.reclaim_until
    if expired or scope.clock >= scope.cap or scope.forced or is_early(scope) then
      scope.closing = true
      transition(scope, 'closing')
      scope.r2 = scope.revision
      redis.call('HSET', prefix .. 'grace', 'r2', scope.r2, 'r2_at', scope.clock)
    end
  end
  if not scope.closing or #waiting_for(scope, scope.r2) > 0 then return end

  -- Lift: what was not used is forfeited; lost owners become orphans.
  local forfeited, reclaimed = remaining(scope), redis.call('SCARD', prefix .. 'reclaimed')
  for _, owner in ipairs(lost_owners(scope)) do
    redis.call('SADD', prefix .. 'orphans', owner)
  end
  forget_open()
  redis.call('UNLINK', prefix .. 'lost')
  scope.lost = nil
  scope.active, scope.in_force, scope.closing, scope.reclaim_until, scope.cap = false, 0, false, 0, 0
  redis.call('HSET', prefix .. 'grace', 'r1', 0, 'r2', 0, 'last_epoch', scope.epoch, 'last_reason', scope.reason,
    'last_started', scope.started, 'last_duration', scope.clock - scope.started, 'last_reclaimed', reclaimed,
    'last_forfeited', forfeited)
  transition(scope, 'lift', 'reason', scope.reason, 'started', scope.started,
    'duration', scope.clock - scope.started, 'reclaimed', reclaimed, 'forfeited', forfeited)
end
