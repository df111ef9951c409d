-- gone_at: until when (scope clock, ms) a member may still confirm something, by its lease deadline: its margin later.
-- After that it holds up no barrier, and may be evicted.
--- @include scope
local function gone_at(owner, deadline)
  return tonumber(deadline) + tonumber(redis.call('HGET', prefix .. 'node:' .. owner, 'margin') or 0)
end
