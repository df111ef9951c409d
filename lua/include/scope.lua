-- scope: names the keys of the scope, and builds the keys of an owner, a client or an adapter in the same slot.
-- KEYS[1]  meta       hash    meta
-- KEYS[2]  grace      hash    grace
-- KEYS[3]  open       set     open
-- KEYS[4]  lost       set     lost
-- KEYS[5]  reclaimed  set     reclaimed
-- KEYS[6]  members    zset    members
-- KEYS[7]  due        zset    due
-- KEYS[8]  releases   hash    releases
-- KEYS[9]  ending     hash    ending
-- KEYS[10] orphans    set     orphans
-- KEYS[11] events     stream  events
local key = {
  meta = KEYS[1], grace = KEYS[2], open = KEYS[3], lost = KEYS[4], reclaimed = KEYS[5], members = KEYS[6],
  due = KEYS[7], releases = KEYS[8], ending = KEYS[9], orphans = KEYS[10], events = KEYS[11],
}
local prefix = string.sub(KEYS[1], 1, -5)

-- kind is node, clients, holders, client or adapter; the only place where Lua spells a derived key.
local function derived(kind, id)
  return prefix .. kind .. ':' .. id
end
