-- registration: the record of a client, or nil. What is absent is live, 0 or empty. States:
-- live; yielded: its home has closed it for a node that asked; deferred: its disconnect waits; revoked: its right has
-- ended, its home has not closed it yet; leaving: its release is due or under way.
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
