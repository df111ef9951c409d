-- reclaim_refusal: why this client, registered here, may not reclaim here now, nil when it may; and its registration.
-- The one order of precedence for an admission and a completion. `stands`: what standing tells of it.
--- @include scope
--- @include registration
--- @include standing
local function reclaim_refusal(scope, client, stands, admission)
  local reg = registration(client)
  if not reg then return 'UNKNOWN' end
  if reg.owner ~= scope.owner then return 'MOVED' end
  if stands.lost[client] then
    if scope.in_force == 0 or (admission and scope.r2 > 0) then return 'BARRIER' end
    -- What it forfeited in the last period may cover this right too: the drain will tell.
    if stands.undrained[client] then return 'BARRIER' end
    return nil, reg
  end
  -- A completion whose answer was lost: since then the period may be over, and the next one begun.
  if not admission and reg.completed == reg.generation and stands.here[client] then return 'ALREADY' end
  -- The member that it is a holder of may be dead and not noticed yet: NO_GRACE would be final for the client.
  if stands.elsewhere[client] then return 'BARRIER' end
  if redis.call('SISMEMBER', key.reclaimed, client) == 1 then return 'ALREADY' end
  if scope.state == 'active' then return 'NOT_EXPECTED' end
  return 'NO_GRACE'
end
