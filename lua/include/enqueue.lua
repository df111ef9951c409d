-- enqueue: puts releases into the queue: up to 200 items { client, upto, reason, at }; of two of one client the
-- later one counts, which covers the earlier. Never takes the work from a claimant.
--- @include release
local function enqueue(items)
  local clients, due, lines = {}, {}, {}
  for i, item in ipairs(items) do clients[i] = item.client end
  for i, old in ipairs(releases_of(clients)) do
    local item = items[i]
    local client, upto, reason, at = item.client, item.upto, item.reason, item.at
    if old and old.claimed then
      local more = tonumber(string.match(old.more, '^%d+') or 0)
      if reason ~= 'disconnect' and upto > math.max(old.upto, more) then
        lines[#lines + 1], lines[#lines + 2] = client,
          release_line(old.upto, old.reason, old.token, old.claimant, int(upto) .. ':' .. reason)
      end
    elseif not (old and reason == 'disconnect' and old.reason ~= 'disconnect') then
      if old and (old.reason == 'disconnect') == (reason == 'disconnect') then -- two of a kind: what both ask for
        if upto <= old.upto then upto, reason = old.upto, old.reason end -- it frees no more: the first reason
        if reason ~= 'disconnect' then at = math.min(at, tonumber(redis.call('ZSCORE', prefix .. 'due', client))) end
      end
      due[#due + 1], due[#due + 2] = at, client
      lines[#lines + 1], lines[#lines + 2] = client, release_line(upto, reason, '-', '-', '-')
    end
  end
  if #due > 0 then redis.call('ZADD', prefix .. 'due', unpack(due)) end
  if #lines > 0 then redis.call('HSET', prefix .. 'releases', unpack(lines)) end
end
