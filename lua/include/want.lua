-- want: tells members what they are to close: wanted is owner -> { client, word, client, word ... }. One event each.
--- @include event
local function want(scope, wanted)
  for owner, words in pairs(wanted) do
    redis.call('HSET', prefix .. 'wanted:' .. owner, unpack(words))
    event(scope, 'wanted', 'owner', owner)
  end
end
