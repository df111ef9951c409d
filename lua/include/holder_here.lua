-- holder_here: the last field of each answer, 1 or 2 (an older right, which the first lock here must confirm by
-- client_hold), becomes 0 unless its client is a holder of the caller.
--- @include held_under
local function holder_here(scope, clients, answers)
  local here = held_under(clients, { scope.owner })
  for i, client in ipairs(clients) do
    if not here[client] then answers[i][5] = 0 end
  end
end
