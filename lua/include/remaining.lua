-- remaining: how many rights to reclaim are left on the rosters of this epoch. Counted once: a script asks after its
-- own changes.
--- @include lost_owners
local function remaining(scope)
  if scope.remaining then return scope.remaining end
  local count = 0
  for _, owner in ipairs(lost_owners(scope)) do
    count = count + redis.call('HLEN', prefix .. 'holders:' .. owner)
  end
  scope.remaining = count
  return count
end
