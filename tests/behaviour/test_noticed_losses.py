"""Scenario 29: who notices that data were lost, who says so, what is no loss, and what old data can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import Fenced, OutcomeUnknown, Reason, Unavailable
from tests.loss import LEASE_AND_MARGIN, all_are_over, answers, backup, flush, holder, restart
from tests.world import GRACE, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.protocol import Call


# -- who notices, and who grants meanwhile -----------------------------------------------------------------------------


def test_29_who_has_not_noticed_grants_until_its_validity_ends_and_nobody_reclaims_before(world: World) -> None:
    """n3 is cut off when the data are lost: its last lock is before the first reclaim, and it ends like the others."""
    n1, n3 = world.node("n1"), world.node("n3")
    holder(n3, "c")
    old = backup(world)
    holder(n1, "a")
    world.pass_time(0.5)
    n3.cut_off = True
    old.put_back()
    world.pass_time(1.2)
    all_are_over(n1)
    (n1,) = restart(world, "n1")
    n1.start("a")
    allowed = []
    while not n1.view().in_force:
        allowed.append(n3.check().allowed)
        world.pass_time(0.2)
    assert allowed[0] is True
    assert allowed[-10:] == [False] * 10
    assert not n3.check().allowed
    n3.cut_off = False
    world.pass_time(1)
    all_are_over(n3)
    assert n1.check().reason is Reason.GRACE_ACTIVE


def test_29_whatever_a_node_asks_tells_it_of_the_loss(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dataset and canary are compared before the fence and before anything is done: no call slips through."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = backup(world)
    holder(n1, "a")
    heard = answers(world, monkeypatch)
    old.put_back()
    before = world.dump()
    n1.alive = n2.alive = False
    with pytest.raises(Fenced, match="data_lost"):
        n1.register("b")
    assert world.dump() == before
    assert n1.ended == ["data_lost"]
    assert heard == [], "its keeper tells it"
    n1.tick()
    assert heard == ["LOST"]
    with pytest.raises(Fenced, match="data_lost"):
        n2.register("b")
    n2.tick()
    assert heard in (["LOST"], ["LOST", "KNOWN"])
    assert world.events().count("start") == 1


@pytest.mark.parametrize("fault", [Unavailable, OutcomeUnknown])
def test_29_what_is_told_of_a_loss_is_told_until_it_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Callable[[str], Exception]
) -> None:
    """Redis is away again, or the reply is lost: once per loss all the same."""
    n1, _ = world.node("n1"), world.node("n2")
    old = backup(world)
    holder(n1, "a")
    heard = answers(world, monkeypatch)
    old.put_back()
    send, faults = n1.send, [fault("away"), fault("away")]

    def away(call: Call[Any]) -> Any:
        if call.script.name == "scope_lost" and faults:
            if fault is OutcomeUnknown:
                send(call)
            raise faults.pop()
        return send(call)

    monkeypatch.setattr(n1, "send", away)
    n1.node.must_renew = True
    n1.tick()
    assert faults == []
    assert heard == (["LOST"] if fault is Unavailable else ["LOST", "KNOWN", "KNOWN"])
    assert world.events().count("start") == 1


@pytest.mark.parametrize("noticed", ["before", "by it"])
def test_29_a_node_that_closes_says_first_what_it_knows(
    world: World, monkeypatch: pytest.MonkeyPatch, noticed: str
) -> None:
    """Its server closes it as soon as it is told, or just then: nobody else was told what is lost, but the scope is."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = backup(world)
    holder(n1, "a")
    n1.alive = n1.hangs = False
    heard = answers(world, monkeypatch)
    old.put_back()
    if noticed == "before":
        with pytest.raises(Fenced, match="data_lost"):
            n1.view()
        assert heard == []
    n1.leave()
    assert heard == ["LOST"]
    world.pass_time(1.2)
    all_are_over(n2)


def test_29_two_losses_in_a_row_and_a_node_that_slept_through_both(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each loss is told once; who remembers what was before the first one tells nothing new."""
    n1, n3 = world.node("n1"), world.node("n3")
    n3.alive = False
    old = backup(world)
    holder(n1, "a")
    world.pass_time(2)
    heard = answers(world, monkeypatch)
    for _ in range(2):
        old.put_back()
        world.pass_time(1.2)
        assert n1.ended == ["data_lost"]
        (n1,) = restart(world, "n1")
        world.pass_time(2)
        old = backup(world)
        n1.register("b")
        world.pass_time(2)
    epoch = n1.view().epoch
    n3.alive = True
    world.pass_time(1.2)
    all_are_over(n3)
    assert heard.count("LOST") == 2
    assert (n1.view().epoch, n1.ended) == (epoch, [])


def test_29_lost_heartbeats_and_touches_are_no_loss(world: World) -> None:
    """A failover that lost nothing that must not be forgotten: nobody ends, nobody is refused."""
    n1, n2 = world.node("n1"), world.node("n2")
    holder(n1, "a")
    old = backup(world)
    world.pass_time(3)
    assert n1.run(n1.node.touch([b"a"])) == [None]
    old.put_back()
    world.pass_time(5)
    assert (n1.ended, n2.ended) == ([], [])
    assert n1.check().allowed
    assert n2.check().allowed
    assert n2.view().epoch == 0
    n1.lock("a")


@pytest.mark.parametrize("forgotten", ["hold", "drop", "register", "unregister", "revoke", "admit"])
def test_29_each_thing_that_must_not_be_forgotten_is_noticed(world: World, forgotten: str) -> None:
    """By the node that was told of it, at its next word with Redis, although nothing else differs."""
    n1 = world.node("n1")
    n1.register("a")
    if forgotten == "drop":
        n1.lock("a")
    elif forgotten == "admit":
        n1.start("a")
    old = backup(world)
    acts: dict[str, Callable[[], object]] = {
        "hold": lambda: n1.begin_lock("a").confirm(),
        "drop": lambda: n1.unlock("a"),
        "register": lambda: n1.register("b"),
        "unregister": lambda: n1.unregister("a"),
        "revoke": lambda: n1.run(n1.node.revoke(b"a")),
        "admit": lambda: n1.admit("a"),
    }
    acts[forgotten]()
    assert n1.ended == []
    old.put_back()
    world.pass_time(1.2)
    all_are_over(n1)


def test_29_generations_are_above_those_of_a_burst(world: World) -> None:
    """Many registered in one ms, generations ran ahead of the clock: the next one is above them all the same."""
    n1, n2 = world.node("n1"), world.node("n2")
    for lost in ("older", "all"):
        old, burst = backup(world), list[int]()
        for player, many in ((n1, 20), (n2, 40)):
            burst += [player.register(f"{player.name}-{i}").generation for i in range(many)]
        if lost == "older":
            old.put_back()
        else:
            flush(world)
        for player in (n1, n2):
            player.node.must_renew = True
            player.tick()
            assert player.ended == ["data_lost"]
        n1, n2 = restart(world, "n1", "n2")
        assert n1.register("new").generation > max(burst)


def test_29_a_release_of_old_data_touches_nothing_newer(world: World) -> None:
    """Freed and acknowledged in the time that was lost, it comes again: up to its generation, which is an old one."""
    n1, n2 = world.node("n1"), world.node("n2")
    first = holder(n1, "a", ttl=1)
    n1.unregister("a")
    old = backup(world)
    world.pass_time(2)
    assert n1.released() == [("a", "disconnect")]
    second = holder(n2, "a")
    old.put_back()
    world.pass_time(1.2)
    n1, n2 = restart(world, "n1", "n2")
    n2.start("a")
    world.pass_time(LEASE_AND_MARGIN + GRACE + 5)
    assert n2.check().allowed
    freed = [release for player in (n1, n2) for release in player.releases]
    assert {release.client_id for release in freed} == {"a"}
    assert all(first <= release.generation for release in freed)
    assert second > first
