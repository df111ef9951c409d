-- reclaim_refusal: why this client, registered here, may not reclaim here now, nil when it may. The one order of
-- precedence for an admission and a completion. on_roster: its right is on a roster of this epoch.
-- ALREADY means that it has its locks: nothing is to be reclaimed.
--- @include view
--- @include record
local function reclaim_refusal(scope, client, on_roster, admission)
  local reg = redis.call('HMGET', prefix .. 'client:' .. client, OWNER, GENERATION, STATE)
  if not reg[1] or (reg[1] == scope.owner and reg[3]) then return 'UNKNOWN' end
  if reg[1] ~= scope.owner then return 'MOVED' end
  if on_roster then
    read_view(scope)
    if scope.in_force == 0 or (admission and scope.closing) then return 'BARRIER' end
    return nil, reg[2]
  end
  if redis.call('HEXISTS', prefix .. 'holders:' .. scope.owner, client) == 1 then return 'ALREADY' end
  return scope.active and 'NOT_EXPECTED' or 'NO_GRACE'
end
