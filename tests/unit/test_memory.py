"""The node's memory of its clients: an entry stands for the checks that were made under it."""

from __future__ import annotations

from dataclasses import replace

from coordinator.memory import Entry, Memory


def entry(client: bytes = b"c1", generation: int = 1, adapter: str = "nfs", previous: str = "") -> Entry:
    """Return an entry."""
    return Entry(client, generation, adapter, 0, previous, holder=False, lock_count=0)


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
    memory, mine = Memory(), replace(entry(generation=4, adapter="smb"), holder=True, lock_count=2)
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
