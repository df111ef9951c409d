-- start_later: ms until a roster that needs `length` ms of grace may start or join a period; 0: now. lost_full: the
-- same for an owner that only waits with the rosters.
--- @include scope
--- @include period
local LOST_MAX = 200 -- rosters of one epoch; bounds every loop over `lost`
local RETRY_MS = 100

local function lost_full()
  return redis.call('SCARD', prefix .. 'lost') >= LOST_MAX and RETRY_MS or 0
end

local function start_later(scope, length)
  if not scope.active then return 0 end
  read_period(scope)
  if scope.closing or lost_full() > 0 then return RETRY_MS end
  local from = scope.clock
  if scope.in_force == 0 then from = math.max(from, scope.started + scope.bound) end
  if from + length > scope.cap then return math.max(scope.cap - scope.clock, RETRY_MS) end
  return 0
end
