"""Scenarios 3, 5 and 44: a node opens a roster, reads its lock store, and tells whom it found there."""

from __future__ import annotations

from typing import Any, cast

import pytest

from coordinator import BarrierPending, GraceStarted, GraceState
from tests.world import GRACE, Player, World

LAPSE = 9.5
MANY = 450
"""More clients than two calls bring."""


def holder(player: Player, client: str, ttl: float = 0.0) -> None:
    """Let a client lock at a node."""
    player.register(client, ttl=ttl)
    player.lock(client)


# -- the store is read after the roster was opened ---------------------------------------------------------------------


def test_44_the_store_is_read_when_the_roster_is_open(world: World) -> None:
    """Once, and not before: nobody is refused anything meanwhile, and nothing has started."""
    n1, n2 = world.node("n1"), world.node("n2")
    seen = []

    def read() -> list[str]:
        world.settle()
        seen.append((world.redis.smembers(world.key("open")), n1.check().allowed, n2.check().allowed, n2.view().epoch))
        return ["a", "b"]

    started = n1.grace.start(read)
    assert seen == [({b"n1:restored:1"}, True, True, 0)]
    assert started == GraceStarted(1, 2, 0, 0, ())
    assert world.dump("open", "ended") == {}
    world.settle()
    assert n2.expected() == ["a", "b"]


def test_44_the_store_is_read_again_when_the_period_was_another(world: World) -> None:
    """A whole period passes while the store is read: what was read is of before it, and is not brought."""
    n1, n2 = world.node("n1"), world.node("n2")
    reads: list[list[str]] = []

    def read() -> list[str]:
        if not reads:
            n2.start("x", "a")
            world.settle()
            n2.run(n2.node.end_grace("operator"))
            world.settle()
            assert n2.view().state is GraceState.NORMAL
        reads.append(["a", "old"] if not reads else ["b"])
        return reads[-1]

    started = n1.grace.start(read)
    assert reads == [["a", "old"], ["b"]]
    assert started == GraceStarted(2, 1, 0, 0, ())
    assert n1.expected() == ["b"]


def test_44_a_store_that_cannot_be_read_starts_nothing(world: World) -> None:
    """The error is the caller's; nobody was refused anything, and the next start begins with the same roster."""
    n1 = world.node("n1")

    def read() -> list[str]:
        message = "the store is away"
        raise OSError(message)

    with pytest.raises(OSError, match="away"):
        n1.grace.start(read)
    assert n1.check().allowed
    assert n1.view().epoch == 0
    assert n1.grace.start(lambda: ["a"]).epoch == 1
    assert world.dump("open", "ended") == {}


def test_44_a_period_that_changes_again_and_again_is_reported(world: World) -> None:
    """Each read takes longer than a period: the start gives up after some tries, and says why."""
    n1, n2 = world.node("n1"), world.node("n2")
    reads = []

    def read() -> list[str]:
        reads.append(1)
        n2.start("x")
        world.settle()
        n2.run(n2.node.end_grace("operator"))
        world.settle()
        return ["a"]

    with pytest.raises(BarrierPending, match="again and again"):
        n1.grace.start(read)
    assert 1 < len(reads) < 10
    assert n2.view().state is GraceState.NORMAL


# -- what a start tells ------------------------------------------------------------------------------------------------


def test_44_each_client_is_told_by_what_it_is(world: World) -> None:
    """Served, on a roster already, given up, or nobody's: and ids that break a rule are reported, and not fatal."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.callback = n2.callback = False
    holder(n2, "served")
    holder(n2, "released")
    n2.unregister("released")
    assert [claim.client for claim in n2.held_back] == [b"released"]
    holder(n3, "lost")
    n3.crash()
    world.pass_time(LAPSE)
    n2.register("reclaimed")
    before = n2.view()
    assert (before.epoch, before.in_force) == (1, True)
    bad = ("", "x" * 1025, cast("str", 7))
    clients = ("served", "released", "lost", "new", "reclaimed", b"\xff\x00", *bad)
    started = n1.grace.start(lambda: clients, reason="restored")
    assert (started.epoch, started.expected, started.live, started.forfeited) == (1, 4, 1, 1)
    assert started.bad == bad
    assert n1.expected() == sorted(["lost", "new", "reclaimed", "\udcff\x00"])
    assert {client: owner for client, (owner, _) in world.rights().items()} == {
        "served": n2.owner,
        "lost": n3.owner,
        **dict.fromkeys(["new", "reclaimed", "\udcff\x00"], "n1:restored:1"),
    }


def test_05_started_again_here_adds_what_is_new(world: World) -> None:
    """A second start of the same node in the same period: known ids stay, those that completed are served."""
    n1 = world.node("n1")
    assert n1.start("a", "b").expected == 2
    n1.reclaim("a")
    assert n1.start("a", "b", "c") == GraceStarted(1, 2, 1, 0, ())
    assert n1.expected() == ["b", "c"]


def test_44_a_client_that_connected_meanwhile_is_waited_for_and_its_new_locks_are_not_touched(world: World) -> None:
    """Registered after the roster was opened, without a lock: its old right is up to what it had before."""
    n1, n2 = world.node("n1"), world.node("n2")
    fresh = []
    n1.start("a", meanwhile=lambda: fresh.append(n2.register("a").generation))
    (_, upto) = world.rights()["a"]
    assert upto < fresh[0]
    world.settle()
    n2.run(n2.node.end_grace("operator"))
    world.settle()
    n2.lock("a")
    world.pass_time(1)
    assert [(r.client_id, r.generation, r.reason) for r in n1.releases + n2.releases] == [("a", upto, "forfeited")]
    assert n2.view_of("a").holder


def test_44_a_big_store_is_brought_in_calls_and_none_of_them_ends_the_period(world: World) -> None:
    """The roster is open until the last call: whoever reclaims between two of them causes no early exit."""
    n1, n2 = world.node("n1"), world.node("n2")
    clients = [f"c{i}" for i in range(MANY)]
    epoch = n1.run(n1.node.open_roster("wait", ""))
    flow: Any = n1.node.bring_roster(epoch, [c.encode() for c in clients], (), "wait", "")
    call, calls = flow.send(None), 0
    while True:
        calls += 1
        reply = n1.send(call)
        if calls == 1:
            world.settle()
            for client in n2.expected():
                n2.register(client)
                n2.complete(client)
            assert (n2.view().in_force, n2.view().closing, n2.expected()) == (True, False, [])
        try:
            call = flow.send(reply)
        except StopIteration as stop:
            started = stop.value
            break
    assert started.expected == MANY
    assert calls == 3
    assert len(n2.expected()) == MANY - 200
    assert world.dump("open") == {}


def test_44_a_start_while_the_period_closes_is_told_to_wait(world: World) -> None:
    """What is closing is not opened again: the start is refused with a time, and gets an epoch of its own after it."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.start("x")
    world.settle()
    n1.hangs = True
    n2.run(n2.node.end_grace("operator"))
    with pytest.raises(BarrierPending) as caught:
        n2.start("a")
    assert caught.value.retry_after > 0
    world.settle()
    assert n2.start("a").epoch == 2


# -- nobody to wait for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["empty", "live", "forfeited"])
@pytest.mark.parametrize("third", ["well", "hung"])
def test_44_a_start_that_adds_nobody_changes_nothing_for_anybody(world: World, store: str, third: str) -> None:
    """No epoch, no event, nobody refused or waited for, whether or not another node hangs; nothing is left of it."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n2.callback = False
    holder(n2, "served")
    holder(n2, "released")
    n2.unregister("released")
    n3.alive = third == "well"
    world.settle()
    before, events = world.dump("grace", "members", "lost", "open", "ended", "holders", "client"), world.events()
    nodes_before = {key for key in world.dump() if b":node:" in key}
    seen = []
    clients = {"empty": (), "live": ("served",), "forfeited": ("released", "served")}[store]

    def meanwhile() -> None:
        world.settle()
        seen.extend([n1.check().allowed, n2.check().allowed])

    started = n1.start(*clients, if_empty="skip" if store == "empty" else "wait", meanwhile=meanwhile)
    assert seen == [True, True]
    assert (started.epoch, started.expected) == (None, 0)
    assert (started.live, started.forfeited) == {"empty": (0, 0), "live": (1, 0), "forfeited": (1, 1)}[store]
    world.settle()
    assert n1.check().allowed
    assert n2.check().allowed
    assert world.dump("grace", "members", "lost", "open", "ended", "holders", "client") == before
    assert {key for key in world.dump() if b":node:" in key} == nodes_before
    assert world.events() == events
    assert n2.view().revision == 0


def test_03_nobody_asked_for_and_wait_is_a_full_period(world: World) -> None:
    """The store could not tell who was there: nobody is expected, and everybody waits."""
    n1, n2 = world.node("n1"), world.node("n2")
    assert n1.start() == GraceStarted(1, 0, 0, 0, ())
    world.settle()
    assert not n2.check().allowed
    world.pass_time(GRACE - 1)
    assert n2.view().in_force
    world.pass_time(2)
    assert n2.check().allowed


def test_03_nobody_on_this_roster_joins_no_period_of_others(world: World) -> None:
    """Inside another node's period `skip` changes nothing of it: its own end is what it was."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.start("x")
    world.settle()
    before = n2.view()
    assert n1.start(if_empty="skip") == GraceStarted(1, 0, 0, 0, ())
    world.settle()
    assert n2.view() == before
    assert n2.reclaim("x").closing


# -- whoever was released after the roster was opened ------------------------------------------------------------------


@pytest.mark.parametrize("active", [False, True], ids=["normal", "in a period"])
@pytest.mark.parametrize("end", ["disconnect", "revoke", "unlock", "under way"])
def test_44_what_ended_after_the_store_was_read_is_not_brought_back(
    world: World,
    end: str,
    active: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    """The store still had A's locks when it was read; they were freed and acknowledged since: A is not expected."""
    n1, n2 = world.node("n1"), world.node("n2")
    holder(n2, "a")
    holder(n2, "b")
    if active:
        n2.start("x")
        world.settle()

    def meanwhile() -> None:
        if end == "unlock":
            n2.unlock("a")
        elif end == "revoke":
            n2.run(n2.node.revoke(b"a"))
        else:
            n2.callback = end == "disconnect"
            n2.unregister("a")
        world.settle()
        released = [] if end in {"unlock", "under way"} else ["a"]
        assert [release.client_id for release in n2.releases] == released

    started = n1.start("a", "b", meanwhile=meanwhile)
    assert started == GraceStarted(1 if active else None, 0, 1, 1, ())
    assert "a" not in world.rights()
    assert world.dump("ended") == {}
    world.settle()
    n2.register("later")
    assert n2.view().epoch == int(active)


def test_44_what_ends_while_another_roster_is_open_is_remembered_for_that_one(world: World) -> None:
    """Two stores are read at once; the first roster is complete when A is released: the second one must not have A."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n3, "a")
    first = n1.run(n1.node.open_roster("skip", ""))
    second = n2.run(n2.node.open_roster("skip", ""))
    assert n1.run(n1.node.bring_roster(first, [b"a"], (), "skip", "")).live == 1
    n3.unregister("a")
    assert n2.run(n2.node.bring_roster(second, [b"a"], (), "skip", "")).forfeited == 1
    assert n2.view().epoch == 0
    assert world.dump("open", "ended") == {}


# -- two rosters at once -----------------------------------------------------------------------------------------------


def test_44_two_nodes_with_rosters_open_at_once(world: World) -> None:
    """One epoch; who is in both stores has one right; the early exit comes when both are complete and reclaimed."""
    n1, n2 = world.node("n1"), world.node("n2")
    first = n1.run(n1.node.open_roster("wait", ""))
    second = n2.run(n2.node.open_roster("wait", ""))
    one = n1.run(n1.node.bring_roster(first, [b"a", b"b"], (), "wait", ""))
    assert (one.epoch, one.expected) == (1, 2)
    world.settle()
    n1.reclaim("a")
    assert not n2.reclaim("b").closing, "the other store is being read"
    two = n2.run(n2.node.bring_roster(second, [b"b", b"c"], (), "wait", ""))
    assert (two.epoch, two.expected, two.live) == (1, 1, 1)
    assert world.rights()["c"][0] == "n2:restored:1"
    assert n1.reclaim("c").closing
    world.settle()
    assert n1.check().allowed
    assert [(p.epoch, p.reclaimed, p.forfeited) for p in n2.periods] == [(1, 3, 0)]


def test_44_the_same_client_in_both_stores(world: World) -> None:
    """Brought by one, it is expected by the other, with the same right."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a")
    assert n2.start("a") == GraceStarted(1, 1, 0, 0, ())
    assert list(world.rights()) == ["a"]
    world.settle()
    assert n2.reclaim("a").closing
