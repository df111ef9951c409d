-- release: the queue of what is to be freed, one entry per client in `releases`: "<upto> <reason> <token> <claimant>
-- <more>": free everything of this client up to a generation, whatever the owner. token and claimant are - while nobody
-- works on it. more, "<upto>:<reason>" or -, is what came while somebody did, and is armed by the acknowledgement.
-- A disconnect waits in its registration as well: an entry of another reason may take its place here, and the
-- acknowledgement of that arms the disconnect again. Lists have up to 200 items.
--- @include scope
--- @include int

-- The entries of clients, an entry each, false for a client that has none.
local function releases_of(clients)
  local entries = {}
  if #clients == 0 then return entries end
  for i, entry in ipairs(redis.call('HMGET', prefix .. 'releases', unpack(clients))) do
    if entry then
      local upto, reason, token, claimant, more = string.match(entry, '^(%d+) (%S+) (%S+) (%S+) (%S+)$')
      entry = { upto = tonumber(upto), reason = reason, token = token, claimant = claimant, more = more,
        claimed = token ~= '-' }
    end
    entries[i] = entry
  end
  return entries
end

local function release_line(upto, reason, token, claimant, more)
  return int(upto) .. ' ' .. reason .. ' ' .. token .. ' ' .. claimant .. ' ' .. more
end
