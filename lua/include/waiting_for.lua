-- waiting_for: the members that hold up the barrier of a revision: neither acked it nor lapsed more than their
-- margin ago. The barrier has passed when there is none.
--- @include scope
local function waiting_for(scope, revision)
  local missing = {}
  local members = redis.call('ZRANGE', key.members, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local node = redis.call('HMGET', derived('node', members[i]), 'acked', 'margin')
    local lapsed = scope.clock > tonumber(members[i + 1]) + tonumber(node[2] or 0)
    if not lapsed and tonumber(node[1] or 0) < revision then missing[#missing + 1] = members[i] end
  end
  return missing
end
