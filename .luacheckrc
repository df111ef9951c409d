-- The flattened scripts as Redis runs them: Lua 5.1 and the globals that Redis gives.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV" }
max_line_length = 120
-- A flattened script carries every key and helper of its includes, used or not.
-- The text of an include is the same in a block, where `scope` and others stand around it.
ignore = { "211", "212", "213", "431", "432" }
