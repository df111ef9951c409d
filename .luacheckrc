-- The flattened scripts as Redis runs them: Lua 5.1 and the globals that Redis gives.
std = "lua51"
read_globals = { "redis", "KEYS", "ARGV" }
max_line_length = 120
-- An include that has several functions gives a script all of them. A contract test asks that each is called somewhere.
ignore = {
  "211/forget_roster", "211/keep_clock", "211/keep_view", "211/pending", "211/read_view", "211/restored_roster",
}
