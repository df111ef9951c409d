-- restored: the roster that a node brings from its lock store, `<node>:restored:<epoch>` (restored_roster). Its record
-- `node:<roster>` has the generation of its start. While one is open, `ended` collects the clients whose right or
-- release ended since.
-- close_roster: it is complete, or its node is gone; forget_roster: nobody was on it; forget_open: the period is over,
-- whatever was still being read; a roster that is lost with its clients is left to the drain.
--- @include scope
--- @include int
--- @include is_restored
local function restored_roster(node, epoch)
  return node .. ':restored:' .. int(epoch)
end

local function close_roster(roster)
  if redis.call('SREM', prefix .. 'open', roster) == 0 then return end
  for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'open')) do -- a roster per node, owners to come, a word
    if is_restored(name) then return end
  end
  redis.call('UNLINK', prefix .. 'ended')
end

local function forget_roster(roster)
  close_roster(roster)
  redis.call('DEL', prefix .. 'node:' .. roster)
end

local function forget_open()
  for _, name in ipairs(redis.call('SMEMBERS', prefix .. 'open')) do -- as above
    if is_restored(name) and redis.call('SISMEMBER', prefix .. 'lost', name) == 0 then
      redis.call('DEL', prefix .. 'node:' .. name)
    end
  end
  redis.call('UNLINK', prefix .. 'open', prefix .. 'ended')
end
