-- attach: a registration that lives on, here: its deferral ends and its holder entry follows; its old owner is told,
-- unless that is gone: the clients of a dead node would push every other event out of the stream.
-- Copied from an old owner that is a member (that node may still serve it), moved if the client had left it, and never
-- taken from a lost owner: those rights must be reclaimed. A copy stands and falls with the original until the client
-- holds something here: if it is forfeited there, orphan_drain takes the copy too (RFC 8881, 8.4.3, second edge).
--- @include scope
--- @include int
--- @include event
--- @include release
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
  if redis.call('ZSCORE', key.members, old.owner) then
    if old.state ~= 'live' then
      redis.call('SMOVE', there, here, client)
    elseif redis.call('SISMEMBER', there, client) == 1 then
      redis.call('SADD', here, client)
      redis.call('HSET', derived('client', client), 'copied', old.copied or old.owner)
    end
    event(scope, 'moved', 'client', client, 'owner', old.owner, 'to', scope.owner, 'generation', int(old.generation))
  else
    -- What is forfeited there goes up to this generation (orphan_drain).
    redis.call('HSET', derived('client', client), 'lost_owner', old.owner, 'lost_generation', int(old.generation))
  end
end
