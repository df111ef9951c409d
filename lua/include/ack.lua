-- ack: records the revision to which the calling node has switched its view, and returns the newest one recorded.
--- @include scope
--- @include view
local function ack(scope, revision)
  local node = prefix .. 'node:' .. scope.owner
  local acked = tonumber(redis.call('HGET', node, 'acked'))
  if revision <= acked then return acked end
  read_view(scope)
  acked = math.min(revision, scope.revision)
  redis.call('HSET', node, 'acked', acked)
  return acked
end
