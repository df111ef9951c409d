"""Scenarios 16, 17, 50: an incarnation is one life, which ends once, for a reason that everything says from then on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import fakeredis
import pytest

from coordinator import (
    Closed,
    Coordinator,
    CoordinatorError,
    Fenced,
    GraceState,
    LeaseLapsed,
    Operation,
    Reason,
    StaleGrant,
)
from tests.every_call import members_calls
from tests.world import GRACE, Player, World

if TYPE_CHECKING:
    from collections.abc import Callable

LAPSE = 9.5
REASONS = ("superseded", "evicted", "data_lost")


def end(world: World, n1: Player, n2: Player, reason: str) -> None:
    """End n1's life, which it has not heard of yet."""
    n1.hangs = True
    n1.alive = False
    if reason == "superseded":
        world.node(n1.name)
    elif reason == "evicted":
        world.pass_time(LAPSE)
        assert n2.node.lease.is_valid(world.time)
    else:
        world.redis.hset(world.key("meta"), "view", "other 0 0 normal 0 0 0 0")
    n1.alive = True


def ask_everything(node: Player) -> dict[str, Callable[[], object]]:
    """Return one way of asking for each thing that a server may want."""
    run, flows = node.run, node.node
    return {
        "register": lambda: node.register("b"),
        "unregister": lambda: node.unregister("a"),
        "begin": lambda: node.begin_lock("a"),
        "count": lambda: run(flows.count_lock(b"a")),
        "drop": lambda: run(flows.drop(b"a")),
        "admit": lambda: node.admit("a"),
        "complete": lambda: node.complete("a"),
        "touch": lambda: run(flows.touch([b"a"])),
        "cancel": lambda: run(flows.cancel(b"a")),
        "revoke": lambda: run(flows.revoke(b"a")),
        "view": node.view,
        "view of a client": lambda: node.view_of("a"),
        "page": lambda: run(flows.client_page("nfs", "0")),
        "roster": node.expected,
        "start": lambda: node.start("x"),
        "withdraw": lambda: run(flows.withdraw()),
        "end grace": lambda: run(flows.end_grace("test")),
        "advance": lambda: run(flows.advance()),
        "evict": lambda: run(flows._evict("n9:1")),
    }


@pytest.mark.parametrize("told_by", ["its keeper", "a call"])
@pytest.mark.parametrize("reason", REASONS)
def test_16_everything_says_why_it_is_over(
    world: World, caplog: pytest.LogCaptureFixture, reason: str, told_by: str
) -> None:
    """The server is told once and the log says it once; check, granting, confirm and every call give that reason."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    grant = n1.begin_lock("a")
    end(world, n1, n2, reason)
    if told_by == "a call":
        with pytest.raises((Fenced, LeaseLapsed)):
            n1.view()
    n1.node.must_renew = True
    n1.tick()
    assert n1.ended == [reason]
    for operation in (Operation.NEW, Operation.RECLAIM):
        verdict = n1.check(operation)
        assert (verdict.allowed, verdict.reason) == (False, Reason(reason))
        with pytest.raises(Fenced, match="never grants again") as caught:
            verdict.raise_for_refusal()
        assert caught.value.reason == reason
    assert n1.check(Operation.TEST).provisional
    with pytest.raises(StaleGrant):
        grant.confirm()
    for what, ask in ask_everything(n1).items():
        with pytest.raises(Fenced) as caught:
            ask()
        assert caught.value.reason == reason, what
        assert "answered" not in str(caught.value), "it does not come back with Redis"
    world.pass_time(5)
    assert n1.ended == [reason]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR and n1.owner in record.message]
    assert len([record for record in errors if "is over" in record.message]) == 1
    assert reason in errors[0].message


def test_16_a_lease_that_lapsed_is_not_the_end(world: World) -> None:
    """While it can still be renewed the reason is another: ask again once Redis has answered."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    n1.cut_off = True
    world.pass_time(world.settings.validity_seconds + 1)
    assert n1.check().reason is Reason.LEASE_LAPSED
    with pytest.raises(LeaseLapsed, match="once Redis has answered"):
        n1.begin_lock("a")
    assert n1.ended == []
    n1.cut_off = False
    world.pass_time(1)
    n1.lock("a")


def test_16_a_node_that_closes_is_closed_and_is_not_told_so(world: World) -> None:
    """Its server does it itself: no callback, and what is asked after it says that it was closed."""
    n1 = world.node("n1")
    n1.register("a")
    n1.leave()
    assert n1.check().reason is Reason.CLOSED
    assert n1.ended == []
    for what, ask in ask_everything(n1).items():
        with pytest.raises(CoordinatorError) as caught:
            ask()
        assert isinstance(caught.value, Closed), what


def test_16_stopped_between_check_and_insert_for_longer_than_its_lease(world: World) -> None:
    """Its confirm refuses, the period it slept through is others' affair, and it does not come back by itself."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    first = n1.lock("a")
    grant = n1.begin_lock("a")
    owner, incarnation = n1.owner, world.redis.hget(world.key("meta"), "incarnation")
    n1.alive = False
    world.pass_time(LAPSE)
    n2.reclaim("a")
    world.settle()
    assert n2.view().state is GraceState.NORMAL
    n1.alive = True
    with pytest.raises(StaleGrant):
        grant.confirm()
    world.pass_time(GRACE)
    assert n1.ended == ["evicted"]
    assert n1.owner == owner == first.owner
    assert n1.node.registry.get(b"a") is None
    assert n1.node.registry.counts()["nfs"] == 0
    assert n1.periods == [], "what ended meanwhile is of no concern to a node that is over"
    assert world.redis.hget(world.key("meta"), "incarnation") == incarnation
    _, view = n2.run(n2.node.scope_view())
    assert [member.owner for member in view.members] == [n2.owner]
    assert n2.view_of("a").holder


def test_16_its_server_starts_a_new_one_and_goes_on(world: World) -> None:
    """A new coordinator of the same name is another incarnation; the old object stays over."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n1.alive = False
    world.pass_time(LAPSE)
    n1.alive = True
    world.settle()
    assert n1.ended == ["evicted"]
    again = world.node("n1", dead=True)
    world.settle()
    assert again.reclaim("a").closing
    world.settle()
    assert again.check().allowed
    assert n2.check().allowed
    assert (n1.ended, n1.check().reason) == (["evicted"], Reason.EVICTED)


@pytest.mark.parametrize("reason", REASONS)
def test_16_nothing_that_is_over_sends_anything(world: World, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """After its end (and telling of lost data) no request leaves the node, from whatever it was doing."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = False
    n1.register("a")
    n1.lock("a")
    n1.register("gone")
    n1.unregister("gone")
    (claim,) = n1.held_back
    end(world, n1, n2, reason)
    n1.node.must_renew = True
    n1.tick()
    sent: list[Any] = []
    monkeypatch.setattr(n1, "send", sent.append)
    world.pass_time(LAPSE)
    for ask in ask_everything(n1).values():
        with pytest.raises(Fenced):
            ask()
    with pytest.raises(Fenced):
        n1.run(n1.keeper.done(claim))
    assert sent == []


@pytest.mark.parametrize("reason", ["superseded", "evicted"])
def test_16_a_fenced_incarnation_changes_nothing(world: World, reason: str) -> None:
    """Invariant 10: whatever arrives of it late, in each script, is answered with the reason and moves no key."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    calls = members_calls(n1, "a", n2.owner)
    end(world, n1, n2, reason)
    before = world.dump()
    for call in calls:
        reply = world.run(call)
        assert (call.script.name, reply.status, reply.data) == (call.script.name, "FENCED", [reason.encode()])
        assert world.dump() == before, call.script.name


def test_17_the_first_reason_stays(world: World) -> None:
    """Superseded, then evicted, then the data are lost: its server was told once, and that reason is given."""
    n1, n2 = world.node("n1"), world.node("n2")
    end(world, n1, n2, "superseded")
    with pytest.raises(Fenced, match="superseded"):
        n1.view()
    world.pass_time(LAPSE)
    world.redis.hset(world.key("meta"), "view", "other 0 0 normal 0 0 0 0")
    world.pass_time(LAPSE)
    assert (n1.ended, n1.check().reason) == (["superseded"], Reason.SUPERSEDED)


@pytest.mark.parametrize("ends", ["before", "meanwhile", "after"])
def test_17_the_server_is_told_once_whenever_it_begins_to_listen(ends: str) -> None:
    """A callback that is set after the end is called too; one that is set at that very moment is not called twice."""

    class Face(Coordinator):
        """Its life ends at the moment when it has a callback."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if ends == "meanwhile" and name == "_ended" and value is not None:
                self._node.end(Reason.SUPERSEDED)

    heard: list[str] = []
    face = Face(fakeredis.FakeRedis(), node="n1")
    if ends == "before":
        face._node.end(Reason.SUPERSEDED)
    face.on_ended(heard.append)
    if ends == "after":
        face._node.end(Reason.SUPERSEDED)
    face._node.end(Reason.EVICTED)
    while not face._callbacks.empty():
        callback = face._callbacks.get()
        assert callback is not None
        callback()
    assert heard == ["superseded"]


def test_50_who_was_away_for_a_whole_grace_is_told_at_its_first_word_with_redis(world: World) -> None:
    """It refused from V on by its own clock, and then nothing but the end is answered, however long it was away."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n1.cut_off = True
    world.pass_time(LAPSE + GRACE + LAPSE)
    assert n1.check().reason is Reason.LEASE_LAPSED
    assert ("a", "forfeited") in n2.released()
    n1.cut_off = False
    world.pass_time(1)
    assert n1.ended == ["evicted"]


def test_50_whose_record_has_expired_was_evicted_and_no_data_were_lost(world: World) -> None:
    """Away for longer than records are kept: the data are all there, so its own end is not everybody's."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.cut_off = True
    world.pass_time(LAPSE)
    owner = n1.owner
    assert world.redis.pttl(world.key("node", owner)) > 0
    world.redis.delete(world.key("node", owner))
    world.time += world.settings.retention_seconds
    n2.run(n2.node.renew())
    n1.cut_off = False
    world.settle()
    assert n1.ended == ["evicted"]
    assert (n2.ended, n2.view().epoch) == ([], 0)
