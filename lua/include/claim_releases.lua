-- claim_releases: hands up to 200 due releases to the caller, a token each. Each comes as release.parse made it, with
-- its entry, and the registration of its client if there is one. What is left of their rights ends. Of one that has
-- registered anew since, only what goes up to the generation that is freed: its record may have expired before. Of one
-- that held nothing (orphaned), none.
--- @include scope
--- @include int
--- @include release
--- @include forget_right
--- @include rights_left
local function end_older_right(claim, reg, under)
  local upto, newer = tonumber(claim.generation), reg.owner == claim.owner
  for left, generation in rights_left(reg) do newer = newer or (left == claim.owner and generation > upto) end
  if not newer then
    under[claim.owner] = under[claim.owner] or {}
    table.insert(under[claim.owner], claim.client)
  end
  if reg.copied and reg.copied <= upto then
    redis.call('SREM', derived('holders', reg.owner), claim.client)
    redis.call('HSET', derived('client', claim.client), 'copied', '')
  end
end

local function claim_releases(scope, claims, claim_ms)
  local ended, under = {}, {}
  for _, claim in ipairs(claims) do
    local reg, owner, generation = claim.reg, claim.owner, claim.generation
    local current = not reg or (reg.owner == owner and (generation == '*' or int(reg.generation) == generation))
    local ends = generation ~= '*' and claim.entry.reason ~= 'orphaned'
    if current and generation ~= '*' then
      if ends then
        ended[#ended + 1] = claim.client
        under[owner] = under[owner] or {}
        table.insert(under[owner], claim.client)
      end
      if reg and reg.state ~= 'leaving' then redis.call('HSET', derived('client', claim.client), 'state', 'leaving') end
    elseif reg and ends then
      end_older_right(claim, reg, under)
    end
  end
  forget_right(ended)
  for owner, clients in pairs(under) do -- an orphan, perhaps
    redis.call('SREM', derived('holders', owner), unpack(clients))
  end
  release.claim_all(scope, claims, claim_ms)
end
