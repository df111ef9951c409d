"""The node's registry of its clients: entries, turns, open grants and lock counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.node.registry import Entry, Registry


def entry(client: bytes = b"c1", generation: int = 1, adapter: str = "nfs", *, holder: bool = False) -> Entry:
    """Return an entry."""
    return Entry(client, generation, adapter, 0, holder=holder)


def with_open(*entries: Entry) -> tuple[Registry, list[str]]:
    """Return a registry with these entries open, and a list that grows each time it wakes somebody."""
    registry, woken = Registry(), []
    for one in entries:
        registry.put(one)
    registry.wake = lambda: woken.append("up")
    return registry, woken


# -- entries ----------------------------------------------------------------------------------------------------------


def test_entries_are_compared_by_identity() -> None:
    """Two entries of equal contents are not the same registration."""
    first = entry()
    assert first == first  # noqa: PLR0124  (identity is what is proved)
    assert first != replace(first)


def test_put_and_get() -> None:
    """The very entry that was put is found; another client's is not."""
    mine = entry()
    registry, _ = with_open(mine)
    assert registry.get(b"c1") is mine
    assert registry.get(b"c2") is None


def test_a_second_registration_replaces_the_entry() -> None:
    """Even a repeat of the same generation makes older checks stale."""
    old, new = entry(), entry()
    registry, _ = with_open(old, new)
    assert registry.get(b"c1") is new
    assert not registry.begin_grant(old, count=False)
    assert registry.counts() == {"nfs": 1}


def test_close_forgets_and_tells_what_was_known() -> None:
    """A closed entry is gone; closing again, or a stranger, is nothing."""
    mine = entry()
    registry, _ = with_open(mine)
    assert registry.close(b"c1") is mine
    assert registry.get(b"c1") is None
    assert registry.close(b"c1") is None
    assert registry.counts() == {"nfs": 0}


def test_close_spares_a_newer_registration() -> None:
    """What is said of generations up to one closes those, not the client that came back since."""
    mine = entry(generation=5)
    registry, _ = with_open(mine)
    assert registry.close(b"c1", 4) is None
    assert registry.get(b"c1") is mine
    assert registry.close(b"c1", 5) is mine
    assert registry.counts() == {"nfs": 0}


def test_an_entry_is_restored_unless_a_newer_one_is_there() -> None:
    """What was closed for nothing comes back as the very same entry."""
    mine, newer = entry(), entry(generation=2)
    registry, _ = with_open(mine)
    registry.close(b"c1")
    registry.restore(mine)
    assert registry.get(b"c1") is mine
    registry.put(newer)
    registry.restore(mine)
    assert registry.get(b"c1") is newer
    assert registry.counts() == {"nfs": 1}


def test_counts_by_adapter() -> None:
    """Each client counts once, under the adapter of its present registration; the answer is a copy."""
    registry = Registry()
    for client, adapter in ((b"c1", "nfs"), (b"c2", "nfs"), (b"c3", "smb"), (b"c1", "nfs"), (b"c2", "smb")):
        registry.put(entry(client, adapter=adapter))
    assert registry.counts() == {"nfs": 1, "smb": 2}
    registry.close(b"c3")
    registry.counts()["nfs"] = 9
    assert registry.counts() == {"nfs": 1, "smb": 1}


def test_clear_closes_everything_and_keeps_adapters_at_zero() -> None:
    """After the incarnation's end nothing is confirmed or dropped; a gauge of an adapter goes to 0."""
    mine = entry(holder=True)
    registry, _ = with_open(mine)
    registry.clear()
    assert registry.get(b"c1") is None
    assert registry.counts() == {"nfs": 0}
    assert registry.begin_drops(9) == []
    assert not registry.begin_grant(mine, count=True)
    assert not registry.count(mine)


# -- turns ------------------------------------------------------------------------------------------------------------


def test_one_turn_at_a_time() -> None:
    """A client's turn is one caller's; another client is free; the end frees it."""
    registry, _ = with_open()
    assert registry.begin_turn(b"c1")
    assert not registry.begin_turn(b"c1")
    assert registry.begin_turn(b"c2")
    registry.end_turn(b"c1")
    assert registry.begin_turn(b"c1")
    assert not registry.begin_turn(b"c2")


def test_the_end_of_no_turn_is_nothing() -> None:
    """Ending what was not begun neither fails nor reserves."""
    registry, _ = with_open()
    registry.end_turn(b"c1")
    assert registry.begin_turn(b"c1")


@pytest.mark.parametrize(("open_", "wake", "woken"), [(False, True, 1), (False, False, 0), (True, True, 0)])
def test_the_end_of_a_turn_wakes_who_may_wait_for_it(*, open_: bool, wake: bool, woken: int) -> None:
    """The keeper may wait to say that an entry is closed; it does not wake itself; an open one is nothing to it."""
    registry, calls = with_open(*[entry()] if open_ else [])
    registry.begin_turn(b"c1")
    registry.end_turn(b"c1", wake=wake)
    assert len(calls) == woken


# -- open grants ------------------------------------------------------------------------------------------------------


def test_a_client_is_settled_when_its_last_grant_is() -> None:
    """Each grant counts until its end, under whichever entry it was begun."""
    old, new = entry(holder=True), entry(generation=2, holder=True)
    registry, _ = with_open(old)
    assert registry.is_settled(b"c1")
    assert registry.begin_grant(old, count=True)
    registry.close(b"c1")
    registry.put(new)
    assert registry.begin_grant(new, count=True)
    registry.end_grant(new, uncount=False)
    assert not registry.is_settled(b"c1")
    registry.end_grant(old, uncount=False)
    assert registry.is_settled(b"c1")
    assert (old.lock_count, new.lock_count) == (1, 1)


def test_no_grant_under_a_closed_entry() -> None:
    """Whoever read the entry before it was closed comes too late; a lock needs a holder besides."""
    mine = entry()
    registry, _ = with_open(mine)
    assert not registry.begin_grant(mine, count=True), "no holder: its lock would have no right"
    assert registry.begin_grant(mine, count=False)
    registry.end_grant(mine, uncount=False)
    registry.close(b"c1")
    mine.holder = True
    assert not registry.begin_grant(mine, count=True)
    assert registry.is_settled(b"c1")
    assert mine.lock_count == 0


@pytest.mark.parametrize(
    ("before", "woken"), [("open", 0), ("closed", 1), ("its last lock", 1)], ids=["open", "closed", "left over"]
)
def test_the_end_of_a_grant_wakes_who_may_wait_for_it(before: str, woken: int) -> None:
    """A yield may wait until it is settled, or a right be left over; a lock that stands is nothing to the keeper."""
    mine = entry(holder=True)
    registry, calls = with_open(mine)
    registry.begin_grant(mine, count=True)
    if before == "closed":
        registry.close(b"c1")
    registry.end_grant(mine, uncount=before == "its last lock")
    assert len(calls) == woken


# -- lock counts ------------------------------------------------------------------------------------------------------


def test_counting_stops_at_none_and_at_what_is_not_known() -> None:
    """Never below none; a count that is not known stays so; nothing is counted under a closed entry."""
    mine = entry(holder=True)
    registry, _ = with_open(mine)
    registry.uncount(mine)
    assert mine.lock_count == 0
    assert registry.count(mine)
    assert mine.lock_count == 1
    mine.lock_count = None
    assert registry.count(mine)
    registry.uncount(mine)
    assert mine.lock_count is None
    registry.close(b"c1")
    assert not registry.count(mine)


def test_a_lock_that_was_counted_under_an_older_entry_is_no_lock_of_the_newer() -> None:
    """A registration goes on only when no grant is open: what is undone of an older one was not counted under it."""
    old = entry(holder=True)
    registry, _ = with_open(old)
    registry.begin_grant(old, count=True)
    registry.close(b"c1")
    new = replace(old, generation=2)
    registry.put(new)
    registry.end_grant(old, uncount=True)
    assert (old.lock_count, new.lock_count) == (0, 1)


# -- drops: a right without a lock ------------------------------------------------------------------------------------


def left_over(registry: Registry, client: bytes) -> Entry:
    """Open the entry of a client whose hold had an unknown outcome."""
    mine = entry(client)
    registry.put(mine)
    registry.begin_turn(client)
    mine.unsure = True
    registry.end_turn(client)
    return mine


def test_a_drop_and_a_grant_at_the_same_moment() -> None:
    """Whichever comes first: a grant that is open keeps the right, one that begins after the drop must hold anew."""
    mine = entry(holder=True)
    registry, _ = with_open(mine)
    assert registry.begin_grant(mine, count=True)
    registry.uncount(mine)
    assert mine.is_left_over
    assert not registry.begin_drop(mine), "its lock may be in the store"
    assert not registry.begin_drop(mine, whatever=True)
    registry.end_grant(mine, uncount=False)
    assert registry.begin_drop(mine)
    assert (mine.holder, mine.unsure) == (False, True)
    assert not registry.begin_grant(mine, count=True)


def test_a_client_with_a_lock_or_without_a_right_is_not_dropped() -> None:
    """Unless its server says so, whatever was counted; what it says is taken for true."""
    mine, stranger = entry(holder=True), entry(b"c2")
    registry, _ = with_open(mine, stranger)
    registry.count(mine)
    assert not registry.begin_drop(mine)
    assert not registry.begin_drop(stranger)
    mine.lock_count = None
    assert not registry.begin_drop(mine), "not known is not none"
    assert registry.begin_drop(mine, whatever=True)
    assert mine.lock_count == 0


def test_what_is_left_over_is_taken_for_a_drop_with_its_turn() -> None:
    """Some at a time, each once, until its end; one that failed is left over still."""
    registry, _ = with_open()
    entries = [left_over(registry, b"c%d" % i) for i in range(3)]
    first = registry.begin_drops(2)
    assert len(first) == 2
    assert not registry.begin_turn(first[0].client)
    assert set(first + registry.begin_drops(2)) == set(entries)
    assert registry.begin_drops(2) == []
    registry.end_turn(first[0].client)
    assert registry.begin_drops(2) == [first[0]]


@pytest.mark.parametrize("how", ["registered", "restored", "turn", "undone"])
def test_a_right_is_noted_as_left_over_whenever_its_entry_shows_it(how: str) -> None:
    """By a registration, a restore, the end of a turn and an undone grant: the keeper finds it in any case."""
    mine = entry(holder=how != "turn")
    registry, _ = with_open()
    if how == "restored":
        registry.restore(mine)
    else:
        mine.lock_count = int(how == "undone")
        registry.put(mine)
    if how == "turn":
        registry.begin_turn(b"c1")
        mine.unsure = True
        registry.end_turn(b"c1")
    elif how == "undone":
        mine.lock_count = 0
        registry.begin_grant(mine, count=True)
        registry.end_grant(mine, uncount=True)
    assert registry.begin_drops(9) == [mine]


@pytest.mark.parametrize("what", ["locked", "gone", "its turn is taken", "a grant is open", "sure", "another life"])
def test_what_is_not_left_over_any_more_is_passed_over(what: str) -> None:
    """Its client has locked since or is not here, somebody else looks after it, or it is known to have no right."""
    registry, _ = with_open()
    mine = left_over(registry, b"c1")
    acts: dict[str, Callable[[], object]] = {
        "locked": lambda: registry.count(mine, reclaiming=True),
        "gone": lambda: registry.close(b"c1"),
        "its turn is taken": lambda: registry.begin_turn(b"c1"),
        "a grant is open": lambda: registry.begin_grant(mine, count=False),
        "sure": lambda: setattr(mine, "unsure", False),
        "another life": registry.clear,
    }
    acts[what]()
    assert registry.begin_drops(9) == []
    if what == "its turn is taken":
        registry.end_turn(b"c1")
    if what == "a grant is open":
        registry.end_grant(mine, uncount=False)
    waited = what in {"its turn is taken", "a grant is open"}
    assert registry.begin_drops(9) == ([mine] if waited else [])
