-- period: what `grace` has of the active period beyond the view, read into `scope`, once.
-- r1 is the revision of its start and r2 of its close, 0 before that; r1_at and r2_at say when. Nothing is in force
-- before `earliest`: who has not noticed a loss of data may grant until then.
--- @include scope
--- @include view
local function read_period(scope)
  if scope.r1 then return end
  read_view(scope)
  local grace = redis.call('HMGET', prefix .. 'grace', 'started', 'r1', 'r1_at', 'r2', 'r2_at', 'length', 'bound',
    'reason', 'earliest')
  scope.started, scope.r1, scope.r1_at = tonumber(grace[1] or 0), tonumber(grace[2] or 0), tonumber(grace[3] or 0)
  scope.r2, scope.r2_at, scope.length = tonumber(grace[4] or 0), tonumber(grace[5] or 0), tonumber(grace[6] or 0)
  scope.bound, scope.reason, scope.earliest = tonumber(grace[7] or 0), grace[8] or '', tonumber(grace[9] or 0)
end
