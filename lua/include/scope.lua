-- scope: names the keys of the scope, and builds the keys of an owner, a client or an adapter in the same slot.
-- A line per key: slot (.. for a derived one), name, type, pattern, what it holds. docs/keyspace.md is made of them.
-- KEYS[1]  meta       hash    meta            schema, dataset, scope clock, and the counters that never go back
-- KEYS[2]  grace      hash    grace           the period: state, epoch, revisions, times, reason; summary of the last
-- KEYS[3]  open       set     open            rosters not complete yet; `wait` and `unknown` rule out an early exit
-- KEYS[4]  lost       set     lost            lost owners and restored rosters of this epoch
-- KEYS[5]  reclaimed  set     reclaimed       clients that completed in this epoch; replaced at the next start
-- KEYS[6]  members    zset    members         owner -> lease deadline, on the scope clock, ms
-- KEYS[7]  due        zset    due             release -> when it may be claimed; while claimed: when the claim runs out
-- KEYS[8]  releases   hash    releases        release -> "<reason> <token> <claimant>", token - while nobody has it
-- KEYS[9]  ending     hash    ending          client -> number of its releases whose right to reclaim is over
-- KEYS[10] orphans    set     orphans         owners and restored rosters to be drained into `due`
-- KEYS[11] events     stream  events          transitions, about 1,000: nodes block on it, people read its history
-- KEYS[..] node       hash    node:<owner>    acked revision, canary, figures, fence; of a restored roster: its start
-- KEYS[..] clients    set     clients:<owner>   clients registered through that owner
-- KEYS[..] holders    set     holders:<owner>   clients that hold locks under that owner; of a lost one: its roster
-- KEYS[..] closing    hash    closing:<owner>   client -> generation: gone from there, and not said to be closed yet
-- KEYS[..] client     hash    client:<id>     registration: owner, generation, adapter, ttl, state, who and when
-- KEYS[..] adapter    set     adapter:<name>  clients that occupy a place of that adapter's limit
local key = {
  meta = KEYS[1], grace = KEYS[2], open = KEYS[3], lost = KEYS[4], reclaimed = KEYS[5], members = KEYS[6],
  due = KEYS[7], releases = KEYS[8], ending = KEYS[9], orphans = KEYS[10], events = KEYS[11],
}
local prefix = string.sub(KEYS[1], 1, -5)

-- kind is the name of a derived key; the only place where Lua spells one.
local function derived(kind, id)
  return prefix .. kind .. ':' .. id
end
