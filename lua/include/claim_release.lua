-- claim_release: hands one due release to the caller. What is left of its right ends: the client is added to `ended`,
-- for forget_right once all are claimed. Not if the registration `reg` has been renewed since: then only the old
-- generation is freed, the new right stays.
--- @include scope
--- @include int
--- @include release
--- @include forget_right
local function claim_release(scope, name, entry, reg, claim_ms, ended)
  local owner, generation, client = release.parse(name)
  local current = not reg or (reg.owner == owner and (generation == '*' or int(reg.generation) == generation))
  if current and generation ~= '*' then
    ended[#ended + 1] = client
    redis.call('SREM', derived('holders', owner), client)
    if reg then redis.call('HSET', derived('client', client), 'state', 'leaving') end
  end
  return release.claim(scope, name, client, entry, claim_ms)
end
