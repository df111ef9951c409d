"""The node's memory of its clients: an entry stands for the checks that were made under it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.node.registry import Entry, Holding, Memory


def entry(client: bytes = b"c1", generation: int = 1, adapter: str = "nfs", previous: str = "") -> Entry:
    """Return an entry."""
    return Entry(client, generation, adapter, 0, previous, Holding(generation, holder=False, lock_count=0))


def test_entries_are_compared_by_identity() -> None:
    """Two entries of equal contents are not the same registration."""
    first = entry()
    assert first == first  # noqa: PLR0124  (identity is what is proved)
    assert first != replace(first)


def test_put_and_get() -> None:
    """The very entry that was put is found; another client's is not."""
    memory, mine = Memory(), entry()
    memory.put(mine)
    assert memory.get(b"c1") is mine
    assert memory.get(b"c2") is None


def test_a_second_registration_replaces_the_entry() -> None:
    """Even a repeat of the same generation makes older checks stale."""
    memory, old, new = Memory(), entry(), entry()
    memory.put(old)
    memory.put(new)
    assert memory.get(b"c1") is new
    assert memory.get(b"c1") is not old


def test_close_forgets_and_tells_what_was_known() -> None:
    """A closed entry is gone; closing again, or a stranger, is nothing."""
    memory, mine = Memory(), entry()
    memory.put(mine)
    assert memory.close(b"c1") is mine
    assert memory.get(b"c1") is None
    assert memory.close(b"c1") is None
    assert memory.counts() == {"nfs": 0}


def test_close_spares_a_newer_registration() -> None:
    """What is told of generations up to one closes those, not the client that came back since."""
    memory, mine = Memory(), entry(generation=5)
    memory.put(mine)
    assert memory.close(b"c1", 4) is None
    assert memory.get(b"c1") is mine
    assert memory.close(b"c1", 5) is mine
    assert memory.counts() == {"nfs": 0}


def test_reopen_makes_open_grants_stale_and_keeps_the_facts() -> None:
    """After reopen the entry is another object with the same registration, holder and count."""
    memory, mine = Memory(), entry(generation=4, adapter="smb")
    mine.holding.holder, mine.holding.lock_count = True, 2
    memory.put(mine)
    again = memory.reopen(b"c1")
    assert again is not None
    assert again is memory.get(b"c1")
    assert again is not mine
    assert (again.client, again.generation, again.adapter) == (b"c1", 4, "smb")
    assert (again.holder, again.lock_count) == (True, 2)
    assert memory.counts() == {"smb": 1}


def test_reopen_of_a_stranger_is_nothing() -> None:
    """A client that is not served here does not appear by being reopened."""
    memory = Memory()
    assert memory.reopen(b"c1") is None
    assert memory.get(b"c1") is None
    assert memory.counts() == {}


def test_counts_by_adapter() -> None:
    """Each client counts once, under the adapter of its present registration."""
    memory = Memory()
    for client, adapter in ((b"c1", "nfs"), (b"c2", "nfs"), (b"c3", "smb"), (b"c1", "nfs"), (b"c2", "smb")):
        memory.put(entry(client, adapter=adapter))
    assert memory.counts() == {"nfs": 1, "smb": 2}
    memory.close(b"c3")
    assert memory.counts() == {"nfs": 1, "smb": 1}


def test_counts_are_a_copy() -> None:
    """What a caller does to the answer changes nothing here."""
    memory = Memory()
    memory.put(entry())
    memory.counts()["nfs"] = 9
    assert memory.counts() == {"nfs": 1}


def test_clear_forgets_clients_and_keeps_their_adapters_at_zero() -> None:
    """A new incarnation begins empty; a gauge of an adapter goes to 0 instead of staying."""
    memory = Memory()
    memory.put(entry())
    memory.clear()
    assert memory.get(b"c1") is None
    assert memory.counts() == {"nfs": 0}


def test_came_from() -> None:
    """Only clients that had a right under that owner when they came are named."""
    memory = Memory()
    moved = replace(entry(b"c1"), left=("n3:1", "n2:1"))
    for other in (moved, replace(entry(b"c2"), left=("n2:2",)), entry(b"c3", previous="n2:1")):
        memory.put(other)
    assert memory.came_from("n2:1") == [moved]
    assert memory.came_from("n9:1") == []
    memory.close(b"c1")
    assert memory.came_from("n2:1") == []


def test_one_switch_at_a_time() -> None:
    """A client is reserved by one hold or drop; another client is free; the end frees it."""
    memory = Memory()
    assert memory.begin_switch(b"c1")
    assert not memory.begin_switch(b"c1")
    assert memory.begin_switch(b"c2")
    memory.end_switch(b"c1")
    assert memory.begin_switch(b"c1")
    assert not memory.begin_switch(b"c2")


def test_the_end_of_no_switch_is_nothing() -> None:
    """Ending what was not begun neither fails nor reserves."""
    memory = Memory()
    memory.end_switch(b"c1")
    assert memory.begin_switch(b"c1")


def test_a_right_that_is_kept_goes_on_with_its_count() -> None:
    """What a registration keeps is shared by its entries, whichever of them a lock is counted under."""
    memory, old, new = Memory(), entry(generation=1), entry(generation=2)
    old.holding.holder = True
    memory.put(old)
    assert memory.put(new, kept=True) is new
    assert memory.count(old)
    assert new.lock_count == 1
    assert new.holding.since == 1
    assert memory.put(entry(generation=3)) is not None
    assert not memory.count(new), "that right is over"


@pytest.mark.parametrize("why", ["not known as a holder", "from elsewhere"])
def test_a_right_that_nobody_here_knows_is_not_taken_for_the_old_one(why: str) -> None:
    """Redis has it as a holder: not of the locks that were counted here, or those are not all."""
    memory, old, new = Memory(), entry(), entry(generation=2, previous="" if why.startswith("not") else "n2:1")
    old.holding.holder = why == "from elsewhere"
    memory.put(old)
    memory.put(new, kept=True)
    assert new.holding is not old.holding


def test_nothing_of_an_earlier_life_is_taken() -> None:
    """Neither a registration that it asked for, nor an entry that it closed."""
    memory, mine = Memory(), entry()
    memory.put(mine)
    memory.close(b"c1")
    memory.clear()
    memory.restore(mine)
    assert memory.put(entry(b"c2")) is None
    assert memory.counts() == {"nfs": 0}
    assert memory.put(replace(entry(), life=memory.life)) is not None


def test_an_entry_is_restored_unless_a_newer_one_is_there() -> None:
    """What was closed for nothing comes back as the very same entry."""
    memory, mine, newer = Memory(), entry(), entry(generation=2)
    memory.put(mine)
    memory.close(b"c1")
    memory.restore(mine)
    assert memory.get(b"c1") is mine
    memory.put(newer)
    memory.restore(mine)
    assert memory.get(b"c1") is newer
    assert memory.counts() == {"nfs": 1}


def test_counting_stops_at_none_and_at_what_is_not_known() -> None:
    """Never below none; a count that was lost stays lost, under every entry of the client."""
    memory, mine = Memory(), entry()
    memory.put(mine)
    memory.uncount(mine.holding)
    assert mine.lock_count == 0
    memory.count(mine)
    memory.lose_count(b"c1", None)
    memory.count(mine)
    memory.uncount(mine.holding)
    assert mine.lock_count is None


def test_a_drop_and_a_completion_keep_each_other_away() -> None:
    """Whichever begins first is waited for; a hold disturbs no completion."""
    memory = Memory()
    assert memory.begin_switch(b"c1")
    assert memory.begin_completing(b"c1")
    assert memory.begin_completing(b"c1"), "a second one"
    assert not memory.begin_drop(b"c1")
    memory.end_completing(b"c1")
    assert not memory.begin_drop(b"c1")
    memory.end_completing(b"c1")
    assert memory.begin_drop(b"c1")
    assert not memory.begin_completing(b"c1")
    assert memory.begin_completing(b"c2")
    memory.end_switch(b"c1")
    assert memory.begin_completing(b"c1")


def left_over(memory: Memory, client: bytes) -> Entry:
    """Return the entry of a client whose hold had an unknown outcome."""
    mine = entry(client)
    memory.put(mine)
    memory.begin_switch(client)
    mine.holding.unsure = True
    assert memory.end_switch(client)
    return mine


def test_what_is_left_over_is_reserved_for_a_drop() -> None:
    """Some at a time, each once, until its end; nobody else holds or drops meanwhile."""
    memory = Memory()
    entries = [left_over(memory, b"c%d" % i) for i in range(3)]
    first = memory.begin_drops(2)
    assert len(first) == 2
    assert not memory.begin_switch(first[0].client)
    assert set(first + memory.begin_drops(2)) == set(entries)
    assert memory.begin_drops(2) == []
    assert memory.end_switch(first[0].client), "it failed: it is left over still"
    assert memory.begin_drops(2) == [first[0]]


@pytest.mark.parametrize("what", ["locked", "gone", "reserved", "completing", "sure", "another life"])
def test_what_is_not_left_over_any_more_is_passed_over(what: str) -> None:
    """Its client has locked since or is not here, somebody else looks after it, or it is known to be none."""
    memory = Memory()
    mine = left_over(memory, b"c1")
    {
        "locked": lambda: memory.count(mine),
        "gone": lambda: memory.close(b"c1"),
        "reserved": lambda: memory.begin_switch(b"c1"),
        "completing": lambda: memory.begin_completing(b"c1"),
        "sure": lambda: setattr(mine.holding, "unsure", False),
        "another life": memory.clear,
    }[what]()
    assert memory.begin_drops(9) == []
    if what == "reserved":
        assert memory.end_switch(b"c1")
    if what == "completing":
        assert memory.end_completing(b"c1")
    assert memory.begin_drops(9) == ([mine] if what in {"reserved", "completing"} else [])
