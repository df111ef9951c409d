-- client_revoke: the client's right to its locks ends now, whoever serves it; they are due for release.
-- ARGV[9]  client    bytes  client id
-- ARGV[10] request   str    random per request; the same again is a repeat
-- Returns  owner of its registration (empty: none), its generation
-- Status   DATA_LOST | FENCED | LATE | UNKNOWN | REVOKED
-- Retry    safe: a repeat with the same request changes nothing
-- Durable  revoke
-- Cost     O(members + lost owners)
--- @include begin
--- @include commit
--- @include reply
--- @include advance
--- @include registration
--- @include next_generation
--- @include held_under
--- @include roster_leave
--- @include end_right
--- @include closing
local client, request = ARGV[9], ARGV[10]

local scope, refusal, why = begin()
if refusal then return reply(scope, refusal, why) end
local reg = registration(client)
if not reg and not held_under({ client }, redis.call('SMEMBERS', key.lost))[client] then
  if redis.call('HEXISTS', key.ending, client) == 1 then return reply(scope, 'REVOKED', '', 0) end -- a repeat
  return reply(scope, 'UNKNOWN')
end
if redis.call('HGET', derived('client', client), 'revoke') == request then
  return reply(scope, 'REVOKED', reg.owner, reg.generation) -- a repeat, whoever serves it by now
end

commit(scope)
local owner, generation
if reg then
  owner, generation = reg.owner, reg.generation
  end_right(scope, client, reg, 'revoked')
  if owner ~= scope.owner and reg.state == 'live' and redis.call('ZSCORE', key.members, owner) then
    must_close(owner, { client, int(generation) })
  end
  redis.call('HSET', derived('client', client), 'state', 'leaving', 'revoke', request)
else
  owner, generation = '', next_generation(scope)
  keep_generations(scope)
  roster_leave({ client })
  release.enqueue(release.name('', int(generation), client), client, scope.clock, 'revoked')
end
event(scope, 'revoked', 'client', client, 'owner', owner, 'generation', int(generation))
advance(scope, false)
return reply(scope, 'REVOKED', owner, generation)
