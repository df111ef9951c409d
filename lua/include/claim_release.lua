-- claim_release: hands one due release to the caller and ends what is left of its right.
-- Not if the registration has been renewed since: then only the old generation is freed, the new right stays.
--- @include scope
--- @include int
--- @include release
--- @include registration
--- @include forget_right
local function claim_release(scope, name, entry, claim_ms)
  local owner, generation, client = release.parse(name)
  local reg = registration(client)
  local current = not reg or (reg.owner == owner and (generation == '*' or int(reg.generation) == generation))
  if current and generation ~= '*' then
    forget_right(client)
    redis.call('SREM', derived('holders', owner), client)
    if reg then redis.call('HSET', derived('client', client), 'state', 'leaving') end
  end
  return release.claim(scope, name, client, entry, claim_ms)
end
