"""Scenario 29: Redis lost data. That is everybody's crash: lives end, and a full grace begins anew above all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator import ClientHeld, ContractBroken, GraceState, ScopeExists, initialize
from coordinator.protocol import nodes
from tests.loss import LEASE_AND_MARGIN, all_are_over, answers, backup, counters, flush, full_grace, holder, restart
from tests.world import GRACE, World

if TYPE_CHECKING:
    import redis

COUNTERS = ("clock", "revision", "epoch", "incarnation", "generation")


# -- each way to lose data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("period", ["normal", "in force"])
def test_29_everything_is_gone(world: World, monkeypatch: pytest.MonkeyPatch, period: str) -> None:
    """FLUSHALL: all end; the first to come back begins a full grace after L + M; the stores say who may reclaim."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    holder(n2, "b")
    if period == "in force":
        n3.start("x")
        world.settle()
        assert n2.view().in_force
    before = counters(world)
    heard = answers(world, monkeypatch)
    flush(world)
    world.pass_time(1.2)
    all_are_over(n1, n2, n3)
    assert heard == ["EMPTY"] * 3
    began = world.clock
    n1, n2, n3 = restart(world, "n1", "n2", "n3")
    after = counters(world)
    assert all(after[name] > before[name] for name in COUNTERS), (before, after)
    assert n1.start("a", "y").expected == 2
    assert n2.start("b").expected == 1
    n3.start(if_empty="skip")
    full_grace(world, began, {"a": n2, "b": n1}, forfeited=["y"])


@pytest.mark.parametrize("age", [1, 30], ids=["a snapshot", "a stale replica"])
@pytest.mark.parametrize("period", ["normal", "in force", "lifted"])
def test_29_older_data_are_back(world: World, monkeypatch: pytest.MonkeyPatch, period: str, age: float) -> None:
    """A snapshot or a stale replica: one says so, the others are known to; rosters are what the old data still say."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    holder(n2, "b")
    old = backup(world)
    holder(n2, "late")
    if period != "normal":
        n3.start("x")
        world.settle()
    if period == "lifted":
        n3.run(n3.node.end_grace("test"))
        world.settle()
    world.pass_time(age)
    before = counters(world)
    heard = answers(world, monkeypatch)
    old.put_back()
    world.pass_time(1.2)
    all_are_over(n1, n2, n3)
    assert sorted(heard) == ["KNOWN", "KNOWN", "LOST"] or heard == ["LOST"]
    after = counters(world)
    assert all(after[name] > before[name] for name in COUNTERS), (before, after)
    assert world.events().count("start") == 1
    began = int(world.redis.hget(world.key("grace"), "started") or 0)
    n1, n2, n3 = restart(world, "n1", "n2", "n3")
    assert n3.expected() == ["a", "b"], "what the old data say, at once"
    n1.start("a")
    assert n2.start("b", "late").expected == 2, "and what the stores say"
    n3.start(if_empty="skip")
    full_grace(world, began, {"a": n3, "late": n1}, forfeited=["b"])


def test_29_a_second_is_lost_and_a_node_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dead node's last lock is in nobody's data: nobody frees it, and its store tells of it when it is back."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    holder(n1, "a")
    world.pass_time(1)
    old = backup(world)
    holder(n1, "last")
    holder(n2, "b")
    n1.crash()
    heard = answers(world, monkeypatch)
    old.put_back()
    world.pass_time(1.2)
    all_are_over(n2, n3)
    assert heard.count("LOST") == 1
    began = int(world.redis.hget(world.key("grace"), "started") or 0)
    n2, n3 = restart(world, "n2", "n3")
    n2.start("b")
    world.pass_time(LEASE_AND_MARGIN + 1)
    assert n2.expected() == ["a", "b"]
    (n1,) = restart(world, "n1")
    assert n1.start("a", "last").expected == 2
    assert n2.released() == n3.released() == []
    full_grace(world, began, {"last": n3, "a": n2}, forfeited=["b"])


@pytest.mark.parametrize("lost", ["the lock", "the registration too"])
def test_29_a_dead_nodes_last_second_is_lost_and_nobody_else_can_know(world: World, lost: str) -> None:
    """The others were told nothing of it: for them no data were lost. That is what an AOF without a second can cost.

    A client that the data have without a right is freed as one that held nothing. One that the data do not have keeps
    its lock in the store until the dead node is back and tells of it.
    """
    n1, n2 = world.node("n1"), world.node("n2")
    if lost == "the lock":
        n1.register("last")
    old = backup(world)
    if lost != "the lock":
        n1.register("last")
    n1.lock("last")
    n1.crash()
    old.put_back()
    world.pass_time(LEASE_AND_MARGIN + 1)
    assert n2.ended == []
    assert n2.view().epoch == 0
    assert n2.released() == ([("last", "orphaned")] if lost == "the lock" else [])
    (n1,) = restart(world, "n1")
    if lost != "the lock":
        assert n1.start("last").expected == 1
        world.settle()
        assert n2.reclaim("last").closing


def test_29_an_old_copy_that_nobody_remembers_more_than(world: World) -> None:
    """It is no loss that could be noticed. A release leaves a newer lock alone; the store tells of it again later.

    That is the limit which docs/protocol.md states: the clock must have passed the generation of the lock.
    """
    n1 = world.node("n1")
    old = backup(world)
    world.pass_time(2 * GRACE)
    generation = holder(n1, "last")
    n1.crash()
    old.put_back()
    (n2,) = restart(world, "n2")
    for is_covered in (False, True):
        n2.start("last")
        world.pass_time(LEASE_AND_MARGIN + GRACE + 1)
        assert n2.released() == [("last", "forfeited")]
        assert (n2.releases.pop().generation >= generation) == is_covered
        world.pass_time(GRACE)
    assert n2.ended == []


@pytest.mark.parametrize("seen", ["disconnecting", "under way", "roster open"])
def test_29_the_data_remember_an_older_life_of_a_client(world: World, seen: str) -> None:
    """It had left, came again and locked: it is expected up to that lock, whatever became of its release before."""
    n1, n2 = world.node("n1"), world.node("n2")
    holder(n1, "c", ttl=5.0)
    n1.callback = n2.callback = seen == "disconnecting"
    n1.unregister("c")
    if seen != "disconnecting":
        world.pass_time(6)
    old = backup(world)
    for node in (n1, n2):
        node.callback = True
        for claim in node.held_back:
            node.run(node.keeper.done(claim))
    world.pass_time(30)
    generation = holder(n1, "c")
    old.put_back()
    world.pass_time(2)
    assert (n1.over, n2.over) == ("data_lost", "data_lost")
    n1, n2 = restart(world, "n1", "n2")
    later = (lambda: world.pass_time(15)) if seen == "roster open" else (lambda: None)
    assert n1.start("c", meanwhile=later).expected == 1
    world.pass_time(2 * LEASE_AND_MARGIN)
    assert n2.register("c").must_reclaim
    world.pass_time(2 * GRACE)
    assert n1.view().state is GraceState.NORMAL
    freed = [release.generation for node in world.nodes for release in node.releases if release.client_id == "c"]
    assert max(freed) >= generation, "forfeited: its newer lock is freed too"


# -- a scope without data, and new installations -----------------------------------------------------------------------


def test_29_without_data_a_scope_begins_with_a_full_grace(world: World) -> None:
    """Who may have granted under the data that are gone is not known: L + M, and then the whole period."""
    n1 = world.node("n1", new=False)
    began = world.clock
    n2 = world.node("n2", new=False)
    assert n1.start("a").epoch == 1
    assert n1.view().reason == "no data"
    n2.start(if_empty="skip")
    full_grace(world, began, {"a": n2}, forfeited=[])
    assert [(p.epoch, p.reclaimed) for p in n1.periods] == [(1, 1)]


def test_03_a_new_installation_begins_normal(client: redis.Redis, product: redis.Redis, namespace: str) -> None:
    """Told by `initialize`, which may be repeated until somebody has joined, and is refused from then on."""
    world = World(client, namespace, product)
    for _ in range(2):
        initialize(product, namespace=namespace)
    before = world.dump()
    initialize(product, namespace=namespace)
    assert world.dump() == before
    n1 = world.node("n1", new=False)
    assert n1.check().allowed
    assert n1.view().epoch == 0
    before = world.dump()
    with pytest.raises(ScopeExists, match="nothing was changed"):
        initialize(product, namespace=namespace)
    assert world.dump() == before
    initialize(product, namespace=namespace, scope="another")
    assert world.node("n1", scope="another", new=False).check().allowed
    world.close()


@pytest.mark.parametrize("when", ["told", "joined again"])
def test_29_initialize_is_no_way_out_of_a_loss(world: World, product: redis.Redis, when: str) -> None:
    """Nodes that remember data have said so, or are back: the scope is none that is new."""
    n1 = world.node("n1")
    holder(n1, "a")
    flush(world)
    world.pass_time(1.2)
    assert n1.ended == ["data_lost"]
    if when == "joined again":
        restart(world, "n1")
    with pytest.raises(ScopeExists):
        initialize(product, namespace=world.settings.namespace)
    (again,) = restart(world, "n1")
    assert not again.check().allowed


def test_33_data_of_schema_1_are_refused_by_name(world: World, product: redis.Redis) -> None:
    """An installation of the version before: neither joined, nor initialized, nor touched."""
    assert nodes.SCHEMA == "3"
    meta = {"schema": "1", "dataset": "d", "clock": 1, "raw": 1, "revision": 7, "epoch": 3, "incarnation": 5}
    world.redis.hset(world.key("meta"), mapping=meta)  # type: ignore[arg-type]
    before = world.dump()
    with pytest.raises(ContractBroken, match="schema '1'"):
        world.node("n1", new=False)
    with pytest.raises(ContractBroken, match="schema '1'"):
        initialize(product, namespace=world.settings.namespace)
    assert world.dump() == before
    flush(world)


def test_29_an_older_node_that_lives_on_is_asked_for_its_clients_no_more(world: World) -> None:
    """After the loss all former members are lost owners: a client registers at once, and reclaims where it is."""
    n1, n2 = world.node("n1"), world.node("n2")
    holder(n1, "a")
    n1.hangs = True
    n1.alive = False
    with pytest.raises(ClientHeld):
        n2.register("a")
    old = backup(world)
    holder(n2, "b")
    old.put_back()
    world.pass_time(1.2)
    all_are_over(n2)
    (n2,) = restart(world, "n2")
    assert n2.register("a").must_reclaim
    world.pass_time(LEASE_AND_MARGIN)
    n2.reclaim("a")
    assert n2.view().state is GraceState.ACTIVE
