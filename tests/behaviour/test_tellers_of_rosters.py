"""Scenarios 31 and 44: a node that tells its store and restarts, dies, changes its mind, or gets no reply."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import ClientHeld, GraceStarted, GraceState, OutcomeUnknown, ReclaimRefused, StaleEpoch
from tests.orders import LOST, faulty
from tests.world import GRACE, Player, World, all_released

if TYPE_CHECKING:
    from coordinator.protocol import Call

LAPSE = 9.5
MANY = 450
"""More clients than two calls bring."""


def holder(player: Player, client: str) -> None:
    """Let a client lock at a node."""
    player.register(client)
    player.lock(client)


# -- a node that is back before its old lease is over ------------------------------------------------------------------


def test_44_a_node_that_restarts_within_its_lease_and_tells_its_store_has_one_period(world: World) -> None:
    """Its old incarnation has rights: the period waits for that, and A reclaims when it was evicted into it."""
    old, n2 = world.node("n1"), world.node("n2")
    holder(old, "a")
    old.crash()
    new = world.node("n1")
    started = new.start("a", "x")
    assert started == GraceStarted(1, 2, 0, 0, ())
    with pytest.raises(ClientHeld):
        new.register("a")
    world.pass_time(LAPSE)
    assert n2.view().epoch == 1
    n2.reclaim("x")
    assert new.reclaim("a").closing
    world.settle()
    assert n2.check().allowed
    assert world.events().count("start") == 1
    assert [(p.epoch, p.reclaimed, p.forfeited) for p in n2.periods] == [(1, 2, 0)]


def test_44_no_early_exit_before_the_superseded_incarnation_is_evicted(world: World) -> None:
    """Its store has nobody beside A, who is with the old incarnation: the period stays open for that one."""
    old, n2 = world.node("n1"), world.node("n2")
    holder(old, "a")
    holder(old, "b")
    world.pass_time(1)
    old.crash()
    new = world.node("n1")
    assert new.start("a") == GraceStarted(1, 1, 0, 0, ())
    end = world.gone_at(old)
    world.reach(end)
    for node in (new, n2):
        node.run(node.node.renew())
    assert n2.view().state is GraceState.ACTIVE
    assert world.redis.smembers(world.key("open")) == {old.owner.encode()}
    world.jump(0.001)
    world.settle()
    assert world.dump("open") == {}
    assert n2.expected() == ["a", "b"], "b as well, whom the store did not have any more"
    n2.reclaim("b")
    assert n2.reclaim("a").closing
    world.settle()
    assert n2.check().allowed
    assert n2.view().epoch == 1


def test_44_stated_dead_its_clients_are_on_the_roster_before_the_store_is_told(world: World) -> None:
    """Nobody waits for the old lease: one period as well."""
    old, n2 = world.node("n1"), world.node("n2")
    holder(old, "a")
    old.crash()
    new = world.node("n1", dead=True)
    assert new.start("a", "x") == GraceStarted(1, 2, 0, 0, ())
    world.settle()
    n2.reclaim("x")
    assert n2.reclaim("a").closing
    world.settle()
    assert world.events().count("start") == 1


# -- a node that dies with its roster open -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["crash", "leave"])
def test_44_a_node_that_dies_while_it_reads_in_a_normal_scope_leaves_nothing(world: World, how: str) -> None:
    """It had started nothing: nobody is refused anything, and no key tells of it any more."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.run(n1.node.open_roster("wait", ""))
    assert world.dump("open", "ended") != {}
    getattr(n1, how)()
    world.pass_time(LAPSE)
    assert n2.check().allowed
    assert n2.view().epoch == 0
    assert world.dump("open", "ended", "lost") == {}
    assert not any(b":restored:" in key for key in world.dump())


def test_44_a_node_that_dies_while_it_reads_in_a_period_rules_out_an_early_exit(world: World) -> None:
    """Whom its store has is not known: the period lasts to its end, or until its next life has told it."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.start("x")
    world.settle()
    n1.run(n1.node.open_roster("wait", ""))
    n1.crash()
    world.pass_time(LAPSE)
    assert not n2.reclaim("x").closing
    world.pass_time(GRACE / 2)
    assert n2.view().in_force
    again = world.node("n1")
    assert again.start("y") == GraceStarted(1, 1, 0, 0, ())
    world.settle()
    assert n2.reclaim("y").closing
    world.settle()
    assert n2.check().allowed
    assert world.dump("open", "ended") == {}


def test_44_a_node_that_never_comes_back_with_its_roster_does_not_hold_up_the_end(world: World) -> None:
    """The deadline ends the period; a bit later the next one has an early exit as ever."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.start("x")
    world.settle()
    n1.run(n1.node.open_roster("wait", ""))
    n1.crash()
    world.pass_time(GRACE + LAPSE)
    assert n2.check().allowed
    assert world.dump("open", "ended") == {}
    n2.start("y")
    assert n2.reclaim("y").lifted


def test_44_a_restarted_nodes_open_roster_survives_the_eviction_of_its_old_incarnation(world: World) -> None:
    """The old one, which had nobody, is evicted while the new one reads: it reads anew, and nobody is lost."""
    old, n2 = world.node("n1"), world.node("n2")
    old.crash()
    new = world.node("n1")
    reads = []

    def read() -> list[str]:
        reads.append(1)
        world.pass_time(LAPSE)
        return ["a"]

    assert new.grace.start(read) == GraceStarted(1, 1, 0, 0, ())
    assert len(reads) <= 2
    assert n2.expected() == ["a"]


# -- withdraw ----------------------------------------------------------------------------------------------------------


def test_44_withdraw_takes_the_whole_roster_back_and_frees_nothing(world: World) -> None:
    """It was a mistake: the period ends at once, nobody's locks are freed, and nobody on it may reclaim."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a", "b")
    world.settle()
    assert n1.run(n1.node.withdraw()) == 2
    world.settle()
    assert n2.check().allowed
    assert [(p.epoch, p.reclaimed, p.forfeited) for p in n2.periods] == [(1, 0, 0)]
    assert n1.run(n1.node.withdraw()) == 0
    world.pass_time(5)
    assert list(all_released(world)) == []
    assert list(n1.grace.forfeited_clients()) == []


def test_44_withdraw_leaves_the_rosters_of_others_and_what_was_reclaimed(world: World) -> None:
    """Whoever reclaimed keeps its right; the period goes on for those whom others wait for."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a", "b")
    n2.start("x")
    world.settle()
    n1.reclaim("a")
    n1.register("b")
    assert n1.grace.withdraw() == 1
    with pytest.raises(ReclaimRefused, match="not_expected"):
        n1.admit("b")
    assert n2.expected() == ["x"]
    assert n2.reclaim("x").closing
    world.settle()
    assert {client: owner for client, (owner, _) in world.rights().items()} == {"a": n1.owner, "x": n2.owner}


def test_44_withdraw_closes_a_roster_that_was_only_opened(world: World) -> None:
    """The store is not told after all: nothing of it remains, in a normal scope and in a period."""
    n1, n2 = world.node("n1"), world.node("n2")
    for active in (False, True):
        if active:
            n2.start("x")
            world.settle()
        epoch = n1.run(n1.node.open_roster("wait", ""))
        assert n1.grace.withdraw() == 0
        assert world.dump("open", "ended") == {}
        with pytest.raises(StaleEpoch):
            n1.run(n1.node.bring_roster(epoch, [b"a"], (), "wait", ""))
    assert n2.reclaim("x").closing


# -- lost replies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("store", ["many", "live"])
def test_31_a_lost_reply_at_any_call_of_the_start(
    world: World, monkeypatch: pytest.MonkeyPatch, store: str, times: int
) -> None:
    """The last one included: one period with exactly those of the store, or none when there is nobody to wait for."""
    n1, n2 = world.node("n1"), world.node("n2")
    holder(n2, "served")
    clients = [f"c{i}" for i in range(MANY)] if store == "many" else ["served"]
    send, sent, lost = n1.send, list[str](), range(0)

    def flaky(call: Call[Any]) -> Any:
        reply = send(call)
        sent.append(call.script.name)
        if len(sent) - 1 in lost:
            message = "the reply was lost"
            raise OutcomeUnknown(message)
        return reply

    monkeypatch.setattr(n1, "send", flaky)
    epoch = 0
    for first in itertools.count(1):
        sent, lost = [], range(first - 1, first - 1 + times)
        started, calls, lost = n1.grace.start(lambda: clients), len(sent), range(0)
        epoch += store == "many"
        if store == "live":
            assert started == GraceStarted(None, 0, 1, 0, ())
            assert n2.view().revision == 0
        else:
            assert started == GraceStarted(epoch, MANY, 0, 0, ())
            assert n2.expected() == sorted(clients)
            assert world.events().count("start") == epoch
            n2.listen()
            n2.tick()
            assert n1.run(n1.node.withdraw()) == MANY
            world.settle()
        assert world.dump("open", "ended", "lost") == {}
        assert n2.check().allowed
        if first > calls:
            break  # each was lost in turn
    assert first > (4 if store == "many" else 2)


def test_31_a_start_whose_outcome_is_not_known_is_made_good_by_the_next_one(world: World) -> None:
    """Three replies of the last call are lost: asked again, the same period, and nobody twice on a roster."""
    n1, n2 = world.node("n1"), world.node("n2")
    epoch = n1.run(n1.node.open_roster("wait", ""))
    with pytest.raises(OutcomeUnknown):
        faulty(n1, n1.node.bring_roster(epoch, [b"a"], (), "wait", ""), LOST, LOST, LOST)
    world.settle()
    assert n1.grace.start(lambda: ["a", "b"]) == GraceStarted(1, 2, 0, 0, ())
    world.settle()
    n2.reclaim("a")
    assert n2.reclaim("b").closing


# -- pages of rosters belong to an epoch -------------------------------------------------------------------------------


def test_44_pages_belong_to_an_epoch(world: World) -> None:
    """Who reads page after page is told when another period has begun, and never gets two rosters for one."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.start("a")
    n2.start("b")
    world.settle()
    pages = n1.grace.expected_clients()
    first = next(pages)
    assert sorted([first, *n1.grace.expected_clients(1)]) == sorted(["a", "b", first])
    n1.run(n1.node.end_grace("operator"))
    world.settle()
    assert list(n1.grace.expected_clients(1)) == []
    n1.start("c")
    with pytest.raises(StaleEpoch) as caught:
        list(pages)
    assert caught.value.epoch == 2
    for which in ("expected", "reclaimed", "forfeited"):
        with pytest.raises(StaleEpoch):
            list(getattr(n1.grace, f"{which}_clients")(1))
    assert list(n1.grace.expected_clients(2)) == ["c"]


def test_44_who_lost_its_locks_by_a_period_can_be_read(world: World) -> None:
    """After the drain: those and no others, until the next period begins; who reclaimed stands beside it."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.callback = n1.callback = False
    n1.start("a", "b", "c")
    world.settle()
    n2.reclaim("a")
    assert list(n2.grace.forfeited_clients(1)) == []
    world.pass_time(GRACE + 2)
    assert sorted(n2.grace.forfeited_clients(1)) == ["b", "c"]
    assert list(n2.grace.reclaimed_clients(1)) == ["a"]
    n1.start("d")
    assert list(n2.grace.forfeited_clients()) == []
