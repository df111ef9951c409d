-- ack: records the revision to which a node has switched. A revision, not a flag: a flag left from an earlier
-- period would let one node grant while another reclaims.
--- @include scope
--- @include int
local function ack(scope, revision)
  if revision > scope.acked then
    scope.acked = revision
    redis.call('HSET', derived('node', scope.owner), 'acked', int(revision))
  end
end
