-- start_later: ms until a roster that needs `length` ms of grace may start or join a period; 0: now.
--- @include scope
local LOST_MAX = 200 -- rosters of one epoch; bounds every loop over `lost`
local RETRY_MS = 100

local function start_later(scope, length)
  if scope.state ~= 'active' then return 0 end
  if scope.r2 > 0 or redis.call('SCARD', key.lost) >= LOST_MAX then return RETRY_MS end
  local from = scope.clock
  if scope.in_force == 0 then from = math.max(from, scope.started + scope.bound) end
  if from + length > scope.cap then return math.max(scope.cap - scope.clock, RETRY_MS) end
  return 0
end
