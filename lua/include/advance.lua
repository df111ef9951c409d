-- advance: moves the period as far as it can go: in force, close, lift (protocol, section 6). Run by every script
-- that could move it. `tight`: the caller holds the strictest view there is (nothing is granted, nothing reclaimed)
-- until this very reply, so it counts as having acked the start and the close.
--- @include scope
--- @include int
--- @include ack
--- @include transition
--- @include waiting_for
--- @include remaining
local function advance(scope, tight)
  if scope.state ~= 'active' then return end
  if tight then ack(scope, math.max(scope.r1, scope.r2)) end

  -- In force: the barrier of the start has passed.
  if scope.in_force == 0 and scope.r2 == 0 and #waiting_for(scope, scope.r1) == 0 then
    scope.in_force = scope.clock
    scope.reclaim_until = math.min(scope.clock + scope.length, scope.cap)
    redis.call('HSET', key.grace, 'in_force', int(scope.in_force), 'reclaim_until', int(scope.reclaim_until))
    transition(scope, 'in_force')
  end

  -- Close: early exit, deadline, cap or the operator (scope.forced). Nothing opens the period again.
  if scope.r2 == 0 then
    local early = scope.in_force > 0 and redis.call('SCARD', key.open) == 0 and remaining() == 0
    local expired = scope.in_force > 0 and scope.clock >= scope.reclaim_until
    if early or expired or scope.clock >= scope.cap or scope.forced then
      transition(scope, 'closing')
      scope.r2, scope.r2_at = scope.revision, scope.clock
      redis.call('HSET', key.grace, 'r2', int(scope.r2), 'r2_at', int(scope.r2_at))
    end
  end
  if scope.r2 == 0 then return end
  if tight then ack(scope, scope.r2) end
  if #waiting_for(scope, scope.r2) > 0 then return end

  -- Lift: what was not used is forfeited; lost owners become orphans.
  local forfeited, reclaimed = remaining(), redis.call('SCARD', key.reclaimed)
  for _, owner in ipairs(redis.call('SMEMBERS', key.lost)) do redis.call('SADD', key.orphans, owner) end
  redis.call('DEL', key.lost, key.open)
  scope.state, scope.r1, scope.r2, scope.in_force, scope.reclaim_until, scope.cap = 'normal', 0, 0, 0, 0, 0
  redis.call('HSET', key.grace, 'state', 'normal', 'r1', 0, 'r2', 0, 'in_force', 0, 'reclaim_until', 0, 'cap', 0,
    'last_epoch', int(scope.epoch), 'last_reason', scope.reason, 'last_started', int(scope.started),
    'last_duration', int(scope.clock - scope.started), 'last_reclaimed', int(reclaimed),
    'last_forfeited', int(forfeited))
  transition(scope, 'lift', 'reason', scope.reason, 'started', int(scope.started),
    'duration', int(scope.clock - scope.started), 'reclaimed', int(reclaimed), 'forfeited', int(forfeited))
end
