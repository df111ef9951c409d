-- lost_owners: the lost owners and restored rosters of this epoch, read once. Who adds one or takes one away forgets
-- them (scope.lost = nil).
--- @include scope
local function lost_owners(scope)
  scope.lost = scope.lost or redis.call('SMEMBERS', prefix .. 'lost') -- bounded by LOST_MAX of start_later
  return scope.lost
end
