-- note_ended: rights or releases of up to 200 clients ended now: a list of a lock store that was read before must not
-- bring them back. The set is there only while a restored roster is open.
--- @include scope
local function note_ended(clients)
  if #clients > 0 and redis.call('EXISTS', prefix .. 'ended') == 1 then
    redis.call('SADD', prefix .. 'ended', unpack(clients))
  end
end
