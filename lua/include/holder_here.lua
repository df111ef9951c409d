-- holder_here: 1 if the client is a holder of the caller, 2 if that is an older right which the first lock here must
-- confirm (client_hold), 0 if it is none.
--- @include scope
local function holder_here(scope, client)
  if redis.call('SISMEMBER', derived('holders', scope.owner), client) == 0 then return 0 end
  if (redis.call('HGET', derived('client', client), 'copied') or '') ~= '' then return 2 end
  return 1
end
