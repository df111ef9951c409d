-- registration: the record of a client, or nil. What is absent is live, 0 or empty.
-- FIELD client owner       through which incarnation it is registered: its home, while that is a member
-- FIELD client generation  serial number of this registration
-- FIELD client adapter     whose place it occupies
-- FIELD client state       live; yielded (its home has closed it for a node that asked); deferred (its disconnect
--                          waits); revoked (its right has ended, its home has not closed it yet); leaving (its release
--                          is due or runs)
-- FIELD client due         when the disconnect of a deferred or leaving client is due
-- FIELD client ttl         ms that a disconnect waits
-- FIELD client addr        remote address, for people
-- FIELD client since       when it was first registered
-- FIELD client seen        when it was last seen
-- FIELD client verifier    changes when the client reboots
-- FIELD client principal   who it is; another one is refused
-- FIELD client admitted    the epoch in which it was last admitted to reclaim
--- @include scope
local function registration(client)
  local r = redis.call('HMGET', prefix .. 'client:' .. client, 'owner', 'generation', 'adapter', 'state', 'due', 'ttl',
    'addr', 'since', 'seen', 'verifier', 'principal', 'admitted')
  if not r[1] then return nil end
  return {
    owner = r[1], generation = tonumber(r[2]), adapter = r[3], state = r[4] or 'live', due = tonumber(r[5] or 0),
    ttl = tonumber(r[6] or 0), addr = r[7] or '', since = r[8], seen = r[9], verifier = r[10] or '',
    principal = r[11] or '', admitted = r[12] or '0',
  }
end
