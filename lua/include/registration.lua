-- registration: the record of a client, or nil. What is absent is live, 0 or empty.
-- FIELD owner       through which incarnation it is registered: its home, while that is a member
-- FIELD generation  serial number of this registration
-- FIELD adapter     whose place it occupies
-- FIELD state       live; yielded (its home has closed it for a node that asked); deferred (its disconnect waits);
--                   revoked (its right has ended, its home has not closed it yet); leaving (its release is due or runs)
-- FIELD due         when the disconnect of a deferred or leaving client is due
-- FIELD ttl         ms that a disconnect waits
-- FIELD addr        remote address, for people
-- FIELD since       when it was first registered
-- FIELD seen        when it was last seen; absent: not since it was registered
-- FIELD verifier    changes when the client reboots
-- FIELD principal   who it is; another one is refused
-- FIELD admitted    the epoch in which it was last admitted to reclaim
--- @include scope
local function registration(client)
  local r = redis.call('HMGET', prefix .. 'client:' .. client, 'owner', 'generation', 'adapter', 'ttl', 'since',
    'state', 'due')
  if not r[1] then return nil end
  return { owner = r[1], generation = tonumber(r[2]), adapter = r[3], ttl = tonumber(r[4] or 0), since = r[5],
    state = r[6] or 'live', due = tonumber(r[7] or 0) }
end
