"""Scripts written by hand that do no more than the writes of one of ours: what its checks and its reading are added to.

Each has one declared key and builds the others from it, as ours do. It is given whatever ours finds out: the owner, the
time, the new generation. Nothing is read, nothing is checked.
"""

from __future__ import annotations

NOTHING = "return 1"

_KEYS = "local prefix = string.sub(KEYS[1], 1, -5)\n"

REGISTER = (
    _KEYS
    + """
local owner, writes, clock, generation, adapter, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
redis.call('HSET', prefix .. 'node:' .. owner, 'writes', writes)
redis.call('HSET', KEYS[1], 'clock', clock, 'raw', clock, 'generation', generation)
for i = 8, #ARGV do
  redis.call('SADD', prefix .. 'adapter:' .. adapter, ARGV[i])
  redis.call('SADD', prefix .. 'clients:' .. owner, ARGV[i])
  redis.call('HSET', prefix .. 'client:' .. ARGV[i], 'o', owner, 'g', generation, 'a', adapter,
    't', ttl, 'r', ARGV[7], 'c', clock)
end
redis.call('HDEL', prefix .. 'wanted:' .. owner, unpack(ARGV, 8))
return 1
"""
)

HOLD = (
    _KEYS
    + """
local owner, writes, generation = ARGV[1], ARGV[2], ARGV[3]
redis.call('HSET', prefix .. 'node:' .. owner, 'writes', writes)
local held = {}
for i = 4, #ARGV do held[#held + 1], held[#held + 2] = ARGV[i], generation end
redis.call('HSET', prefix .. 'holders:' .. owner, unpack(held))
return 1
"""
)

DROP = (
    _KEYS
    + """
local owner, writes = ARGV[1], ARGV[2]
redis.call('HSET', prefix .. 'node:' .. owner, 'writes', writes)
redis.call('HDEL', prefix .. 'holders:' .. owner, unpack(ARGV, 3))
return 1
"""
)

TOUCH = (
    _KEYS
    + """
local clock = ARGV[1]
redis.call('HSET', KEYS[1], 'clock', clock, 'raw', clock)
for i = 2, #ARGV do redis.call('HSET', prefix .. 'client:' .. ARGV[i], 'l', clock) end
return 1
"""
)

COMPLETE = (
    _KEYS
    + """
local owner, writes, clock, roster, generation = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
redis.call('HSET', prefix .. 'node:' .. owner, 'writes', writes)
redis.call('HSET', KEYS[1], 'clock', clock, 'raw', clock)
redis.call('HDEL', prefix .. 'holders:' .. roster, unpack(ARGV, 6))
redis.call('SADD', prefix .. 'reclaimed', unpack(ARGV, 6))
local held = {}
for i = 6, #ARGV do held[#held + 1], held[#held + 2] = ARGV[i], generation end
redis.call('HSET', prefix .. 'holders:' .. owner, unpack(held))
return 1
"""
)

UNREGISTER = (
    _KEYS
    + """
local owner, writes, clock, at, ms, entry = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
redis.call('HSET', prefix .. 'node:' .. owner, 'writes', writes)
redis.call('HSET', KEYS[1], 'clock', clock, 'raw', clock)
local due, lines = {}, {}
for i = 7, #ARGV do
  local record = prefix .. 'client:' .. ARGV[i]
  redis.call('PEXPIRE', record, ms)
  redis.call('HSET', record, 's', 'deferred', 'd', at)
  due[#due + 1], due[#due + 2] = at, ARGV[i]
  lines[#lines + 1], lines[#lines + 2] = ARGV[i], entry
end
redis.call('ZADD', prefix .. 'due', unpack(due))
redis.call('HSET', prefix .. 'releases', unpack(lines))
return 1
"""
)

RENEW = (
    _KEYS
    + """
local owner, clock, lease = ARGV[1], ARGV[2], ARGV[3]
redis.call('HSET', KEYS[1], 'clock', clock, 'raw', clock)
redis.call('ZADD', prefix .. 'members', lease, owner)
return 1
"""
)
