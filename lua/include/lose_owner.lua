-- lose_owner: a member is one no more. With rights it becomes a lost owner, which starts or joins a period; with only
-- clients, an orphan. lose_later: ms after which to ask again, 0: now.
--- @include scope
--- @include start_later
--- @include start_period
--- @include restored
local function lose_later(scope, owner)
  if redis.call('HLEN', prefix .. 'holders:' .. owner) > 0 then
    return start_later(scope, tonumber(redis.call('HGET', prefix .. 'node:' .. owner, 'grace') or 0))
  end
  -- Without rights it is no roster, but inside a period it waits with them (below).
  if scope.active and redis.call('SCARD', prefix .. 'clients:' .. owner) > 0 then return lost_full() end
  return 0
end

local function lose_owner(scope, owner, fence, reason)
  local node = prefix .. 'node:' .. owner
  local figures = redis.call('HMGET', node, 'grace', 'lease', 'margin', 'retention')
  redis.call('ZREM', prefix .. 'members', owner)
  redis.call('HSETNX', node, 'fenced', fence)
  redis.call('PEXPIRE', node, figures[4] or 1) -- if there is none, its rights count all the same
  redis.call('UNLINK', prefix .. 'wanted:' .. owner) -- it confirms nothing any more
  redis.call('SREM', prefix .. 'open', owner) -- it was waited for with the roster of its successor
  read_view(scope)
  if not scope.active then
    -- What it was reading in its lock store has started nothing; inside a period it rules out an early exit.
    local roster = restored_roster(string.match(owner, '^(.*):%d+$'), scope.epoch + 1)
    if redis.call('HGET', prefix .. 'node:' .. roster, 'owner') == owner then forget_roster(roster) end
  end
  if redis.call('HLEN', prefix .. 'holders:' .. owner) > 0 then
    local length, bound = tonumber(figures[1] or 0), 2 * tonumber(figures[2] or 0) + tonumber(figures[3] or 0)
    start_period(scope, owner, length, bound, reason)
  elseif redis.call('SCARD', prefix .. 'clients:' .. owner) > 0 then
    -- Inside a period its clients may be on a roster: they are neither released nor lose their place before the lift.
    redis.call('SADD', scope.active and prefix .. 'lost' or prefix .. 'orphans', owner)
    scope.lost = nil
  end
end
