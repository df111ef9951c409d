-- unqueue: takes a client's release out of the queue.
--- @include scope
local function unqueue(client)
  redis.call('ZREM', prefix .. 'due', client)
  redis.call('HDEL', prefix .. 'releases', client)
end
