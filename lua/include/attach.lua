-- attach: a registration that lives on, here: its deferral ends and its holder entry follows; its old owner is told,
-- unless that is gone: the clients of a dead node would push every other event out of the stream.
-- Copied from an old owner that is a member (that node may still serve it), moved if the client had left it, and never
-- taken from a lost owner: those rights must be reclaimed. What stays behind is noted (rights_left): a forfeit of it,
-- or of the original of a copy, takes with it all that the client held earlier (RFC 8881, 8.4.3, second edge).
--- @include scope
--- @include int
--- @include event
--- @include release
--- @include rights_left
local function attach(scope, client, old)
  if old.state ~= 'live' then
    local name = release.name(old.owner, int(old.generation), client)
    local pending = release.get(name)
    if pending and pending.reason == 'disconnect' then release.remove(name, client) end
    redis.call('PERSIST', derived('client', client))
  end
  redis.call('SADD', derived('clients', scope.owner), client)
  if old.owner == scope.owner then return end

  redis.call('SREM', derived('clients', old.owner), client)
  local here, there = derived('holders', scope.owner), derived('holders', old.owner)
  local left, copied = {}, nil
  for owner, generation in rights_left(old) do
    if redis.call('SISMEMBER', derived('holders', owner), client) == 1 then
      if owner == scope.owner then
        copied = generation -- back here, where its right is still that of the time before
      else
        left[#left + 1] = owner .. '=' .. int(generation)
      end
    end
  end
  local member = redis.call('ZSCORE', key.members, old.owner)
  if member and old.state ~= 'live' then
    if redis.call('SMOVE', there, here, client) == 1 then copied = old.copied end
  elseif redis.call('SISMEMBER', there, client) == 1 then
    local right = old.copied or old.generation
    left[#left + 1] = old.owner .. '=' .. int(right)
    if member then
      redis.call('SADD', here, client)
      copied = right
    end
  end
  redis.call('HSET', derived('client', client), 'left', table.concat(left, ' '), 'copied', copied and int(copied) or '')
  if member then
    event(scope, 'moved', 'client', client, 'owner', old.owner, 'to', scope.owner, 'generation', int(old.generation))
  end
end
