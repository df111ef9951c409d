-- lose_owner: a member becomes a lost owner (it has holders: starts or joins a period), an orphan (only clients)
-- or nothing. Returns 0, or the ms after which to ask again, when nothing was changed.
--- @include scope
--- @include start_later
--- @include start_period
local function lose_later(scope, owner)
  if redis.call('SCARD', derived('holders', owner)) > 0 then
    return start_later(scope, tonumber(redis.call('HGET', derived('node', owner), 'grace') or 0))
  end
  -- Without holders it is no roster, but inside a period it waits with them (lose_owner).
  if scope.state == 'active' and redis.call('SCARD', derived('clients', owner)) > 0 then return lost_full() end
  return 0
end

local function lose_owner(scope, owner, fence, reason)
  local node = derived('node', owner)
  local figures = redis.call('HMGET', node, 'grace', 'lease', 'margin', 'retention')
  redis.call('ZREM', key.members, owner)
  redis.call('HSETNX', node, 'fenced', fence)
  redis.call('UNLINK', derived('closing', owner)) -- it confirms nothing any more
  redis.call('PEXPIRE', node, figures[4])
  if redis.call('SCARD', derived('holders', owner)) > 0 then
    local bound = 2 * tonumber(figures[2]) + tonumber(figures[3])
    start_period(scope, owner, tonumber(figures[1]), bound, reason)
  elseif redis.call('SCARD', derived('clients', owner)) > 0 then
    -- Inside a period its clients may be on a roster: they are neither released nor lose their place before the lift.
    if scope.state == 'active' then
      redis.call('SADD', key.lost, owner)
    else
      redis.call('SADD', key.orphans, owner)
    end
  end
end
