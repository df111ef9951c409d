-- undrained: has the client a right that was forfeited, and orphan_drain has not come to it yet?
--- @include scope
local function undrained(client)
  for _, orphan in ipairs(redis.call('SMEMBERS', key.orphans)) do -- drained at once; as few as rosters in an epoch
    if redis.call('SISMEMBER', derived('holders', orphan), client) == 1 then return true end
  end
  return false
end
