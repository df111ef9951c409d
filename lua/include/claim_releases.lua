-- claim_releases: hands up to 200 due releases to the caller, a token each. Each comes as release.parse made it, with
-- its entry, and the registration of its client if there is one. What is left of their rights ends. Not if the
-- registration has been renewed since: then only the old generation is freed, the new right stays.
--- @include scope
--- @include int
--- @include release
--- @include forget_right
local function claim_releases(scope, claims, claim_ms)
  local ended, under = {}, {}
  for _, claim in ipairs(claims) do
    local reg, owner, generation = claim.reg, claim.owner, claim.generation
    local current = not reg or (reg.owner == owner and (generation == '*' or int(reg.generation) == generation))
    if current and generation ~= '*' then
      ended[#ended + 1] = claim.client
      under[owner] = under[owner] or {}
      table.insert(under[owner], claim.client)
      if reg and reg.state ~= 'leaving' then redis.call('HSET', derived('client', claim.client), 'state', 'leaving') end
    end
  end
  forget_right(ended)
  for owner, clients in pairs(under) do -- an orphan, perhaps
    redis.call('SREM', derived('holders', owner), unpack(clients))
  end
  release.claim_all(scope, claims, claim_ms)
end
