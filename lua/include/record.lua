-- record: the fields of `client:<id>`. What is absent is live, 0 or empty. A letter each, since there is a record per
-- client: the names as they stand in the code would cost 32 bytes more in each.
-- FIELD client o  owner: through which incarnation it is registered: its home, while that is a member
-- FIELD client g  generation: serial number of this registration
-- FIELD client a  adapter: whose place it occupies
-- FIELD client t  ttl: ms that a disconnect waits
-- FIELD client r  addr: remote address, for people
-- FIELD client c  since: when it was first registered
-- FIELD client s  state: live; yielded (its home has closed it for a node that asked); deferred (its disconnect waits);
--                 revoked (its right has ended, its home has not closed it yet); leaving (its release is due or runs)
-- FIELD client d  due: when the disconnect of a deferred or leaving client is due
-- FIELD client l  seen: when it was last seen, if that was after it was registered
-- FIELD client v  verifier: changes when the client reboots
-- FIELD client p  principal: who it is; another one is refused
-- FIELD client e  admitted: 1 if it was admitted to reclaim here: its home may be inserting locks for it
local OWNER, GENERATION, ADAPTER, TTL, ADDR, SINCE = 'o', 'g', 'a', 't', 'r', 'c'
local STATE, DUE, SEEN, VERIFIER, PRINCIPAL, ADMITTED = 's', 'd', 'l', 'v', 'p', 'e'
