-- attach: a registration that lives on, here: its deferral ends and its holder entry follows.
-- Copied from an old owner that is a live registration's member (that node may still serve it), moved if the client
-- was deferred there, and never taken from a lost owner: those rights must be reclaimed.
--- @include scope
--- @include event
--- @include release
local function attach(scope, client, old)
  local name = release.name(old.owner, string.format('%.0f', old.generation), client)
  local pending = release.get(name)
  if pending and pending.reason == 'disconnect' then release.remove(name, client) end
  redis.call('PERSIST', derived('client', client))
  redis.call('SADD', derived('clients', scope.owner), client)
  if old.owner == scope.owner then return end

  redis.call('SREM', derived('clients', old.owner), client)
  local here, there = derived('holders', scope.owner), derived('holders', old.owner)
  if redis.call('ZSCORE', key.members, old.owner) then
    if old.state == 'deferred' then
      redis.call('SMOVE', there, here, client)
    elseif redis.call('SISMEMBER', there, client) == 1 then
      redis.call('SADD', here, client)
    end
  end
  event(scope, 'moved', 'client', client, 'owner', old.owner, 'to', scope.owner)
end
