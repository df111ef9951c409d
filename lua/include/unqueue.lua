-- unqueue: takes the releases of up to 200 clients out of the queue.
--- @include scope
local function unqueue(clients)
  redis.call('ZREM', prefix .. 'due', unpack(clients))
  redis.call('HDEL', prefix .. 'releases', unpack(clients))
end
