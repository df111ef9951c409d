-- standing: under whom up to 200 clients have a right, each kind a table client -> owner:
-- lost: on a roster of the present epoch; undrained: forfeited with the last one, and orphan_drain has not come to it
-- yet; of those on no roster, here: a holder of `here`, elsewhere: of another member, perhaps dead and not noticed.
--- @include scope
--- @include held_under
local function standing(here, clients)
  local lost = held_under(clients, redis.call('SMEMBERS', key.lost)) -- bounded by LOST_MAX of start_later
  local others, rest = {}, {}
  for _, client in ipairs(clients) do
    if not lost[client] then rest[#rest + 1] = client end
  end
  for _, member in ipairs(redis.call('ZRANGE', key.members, 0, -1)) do
    if member ~= here then others[#others + 1] = member end
  end
  return {
    lost = lost, here = held_under(rest, { here }), elsewhere = held_under(rest, others),
    undrained = held_under(clients, redis.call('SMEMBERS', key.orphans)), -- drained at once
  }
end
