-- waiting_for: the members that hold up the barrier of a revision: neither acked it nor lapsed more than their
-- margin ago. The barrier has passed when there is none. An ack is a revision and not a flag: a flag left from an
-- earlier period would let one node grant while another reclaims.
-- pending: those that hold up the present period, of its start or of its close; none while it is in force.
--- @include scope
--- @include period
--- @include gone_at
local function waiting_for(scope, revision)
  local missing = {}
  local members = redis.call('ZRANGE', prefix .. 'members', 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local acked = tonumber(redis.call('HGET', prefix .. 'node:' .. members[i], 'acked') or 0)
    if acked < revision and scope.clock <= gone_at(members[i], members[i + 1]) then
      missing[#missing + 1] = members[i]
    end
  end
  return missing
end

local function pending(scope)
  if not scope.active then return {} end
  read_period(scope)
  if scope.closing then return waiting_for(scope, scope.r2) end
  if scope.in_force == 0 then return waiting_for(scope, scope.r1) end
  return {}
end
