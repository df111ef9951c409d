"""Scenario 24, in driven time: a worker dies with its claim; the release is done again, by one node at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import GraceState, Unavailable
from coordinator.node import Sleep
from coordinator.protocol.call import BATCH_MAX
from tests.behaviour.test_story import LockStore
from tests.world import TICK, all_released

if TYPE_CHECKING:
    from coordinator.node import Flow
    from coordinator.protocol.releases import Claim
    from tests.world import Player, World

LAPSE = 9.5
LOCKS = 3
MOMENTS = pytest.mark.parametrize("moment", ["after claim", "in it", "before ack"])


def only_release(world: World) -> bytes:
    """Return the name of the one entry of the queue."""
    (name,) = world.redis.zrange(world.key("due"), 0, -1)
    assert isinstance(name, bytes)
    return name


def claim_ends(world: World) -> int:
    """Return when the one entry of the queue comes due again, in ms of the scope clock."""
    return int(world.redis.zscore(world.key("due"), only_release(world)) or 0)


def claimed_elsewhere(home: Player, worker: Player) -> Claim:
    """Let `home`, which has no callback, disconnect its client a; return the claim that `worker` took and keeps."""
    world = home.world
    for node in world.nodes:
        node.node.claims_releases = node is worker
    worker.callback = False
    home.register("a")
    home.lock("a")
    home.unregister("a")
    world.pass_time(0.8)
    (claim,) = worker.held_back
    return claim


def locks_of(player: Player) -> LockStore:
    """Return a store with the locks of client a, and one of client d."""
    owner, generation = player.owner, player.view_of("a").generation
    store = LockStore({f"file {i}": ("a", owner, generation) for i in range(LOCKS)})
    store.insert("another", "d", owner, generation + 1)
    return store


def die(worker: Player, claim: Claim, moment: str, store: LockStore) -> None:
    """Let a worker get so far with its claim, then die with its node."""
    if moment != "after claim":
        assert worker.keeper.may_begin(claim)
        for i in range(LOCKS if moment == "before ack" else 1):
            del store.held[f"file {i}"]
    if moment == "before ack":
        request: Any = next(worker.keeper.done(claim))
        assert request.script.name == "release_ack", "which is never sent"
    worker.crash()


def check_done_once_more(store: LockStore, claim: Claim, node: Player) -> None:
    """Check that the other node, and nobody else, was given the very same release, and that it frees what is left."""
    assert node.releases == [claim.release]
    assert list(all_released(node.world)) == [("a", "disconnect")]
    for release in node.releases:
        store.free(release)
    assert list(store.held) == ["another"]
    assert node.world.dump("due", "releases") == {}


@MOMENTS
def test_24_the_home_nodes_worker_dies_with_its_node(world: World, moment: str) -> None:
    """TTL 0: claimed by the disconnect itself. Not before the claim ran out, then once, by the other node."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = False
    n1.register("a")
    n1.lock("a")
    n1.unregister("a")
    (claim,) = n1.held_back
    store = locks_of(n1)
    die(n1, claim, moment, store)
    world.reach(claim_ends(world) - 1)
    world.settle()
    assert list(all_released(world)) == []
    world.pass_time(1)
    check_done_once_more(store, claim, n2)
    assert world.dump("client", "adapter") == {}


@MOMENTS
def test_24_the_worker_and_the_node_that_held_the_client_die(world: World, moment: str) -> None:
    """n2 was at n1's client; n1 dies, then n2: n3 does it, in the grace of n1's other client, which goes on."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("d")
    n1.lock("d")
    claim = claimed_elsewhere(n1, n2)
    store = locks_of(n1)
    n1.crash()
    n3.node.claims_releases = True
    world.pass_time(2)
    die(n2, claim, moment, store)
    end = claim_ends(world)
    world.reach(end - 1)
    world.settle()
    assert list(all_released(world)) == []
    world.pass_time(LAPSE)
    assert n3.view().waiting_for == ("d",)
    n3.reclaim("d")
    world.pass_time(2)
    check_done_once_more(store, claim, n3)
    world.pass_time(30)
    assert len(n3.releases) == 1
    assert world.redis.smembers(world.key("adapter", "nfs")) == {b"d"}


def test_24_a_worker_that_only_takes_long_keeps_its_claim(world: World) -> None:
    """Its keeper renews the claim: nobody else is at it, for as long as the callback runs; then it is acknowledged."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    claim = claimed_elsewhere(n1, n3)
    for node in (n1, n2):  # n2 looks at the queue before n3 does
        node.node.claims_releases = True
    n1.crash()
    world.pass_time(45)
    assert list(all_released(world)) == []
    assert n3.held_back == [claim]
    n3.run(n3.keeper.done(claim))
    world.pass_time(15)
    assert list(all_released(world)) == []
    assert world.dump("due", "releases", "client", "adapter") == {}


def test_24_a_claim_that_somebody_else_has_now_is_not_renewed(world: World) -> None:
    """A worker stalls until its claim ran out and another node has it: it is told, gives up, and postpones nothing."""
    world.settings = replace(world.settings, claim_seconds=3.6)
    n1, n2 = world.node("n1"), world.node("n2")
    old = claimed_elsewhere(n1, n2)
    n1.callback, n1.node.claims_releases, n2.alive = False, True, False
    world.reach(claim_ends(world) + 250)
    world.settle()
    (new,) = n1.held_back
    assert new.client == old.client
    end = claim_ends(world)
    n2.tick()
    assert old.client not in n2.keeper.claims
    assert not n2.keeper.may_begin(old)
    assert claim_ends(world) == end
    n1.run(n1.keeper.done(new))
    assert world.dump("due", "releases", "client", "adapter") == {}


def test_24_once_per_claim_at_a_time(world: World) -> None:
    """When a claim has run out, two nodes ask in the same moment: one gets it, with a token of its own."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    first = claimed_elsewhere(n1, n2)
    n1.callback = n3.callback = False
    n1.node.claims_releases = n3.node.claims_releases = True
    n2.crash()
    tokens, waited = [first.token], []
    for _ in range(3):
        before = world.clock
        world.reach(claim_ends(world) + 250)
        waited.append(world.clock - before)
        for node in (n1, n3):
            node.node.must_renew = True
            node.tick()
        (claim,) = n1.held_back + n3.held_back
        tokens.append(claim.token)
        for node in (n1, n3):  # the worker is gone, its keeper knows of no claim any more
            node.held_back.clear()
            node.keeper.claims.clear()
            node.keeper._good_until.clear()
    assert len(set(tokens)) == len(tokens)
    assert all(ms > 9000 for ms in waited), "a claim is good for 10 s"


def test_23_a_release_of_an_old_generation_leaves_the_new_registration_alone(world: World) -> None:
    """The client rebooted and locked anew before its old locks were freed: the claim ends nothing of the new."""
    n1 = world.node("n1")
    n1.node.claims_releases = False
    old = n1.register("a", verifier="boot-1")
    n1.lock("a")
    n1.register("a", verifier="boot-2")
    n1.lock("a")
    n1.node.claims_releases = True
    world.settle()
    assert [(release.reason, release.generation) for release in n1.releases] == [("rebooted", old.generation)]
    assert (n1.view_of("a").state, n1.view_of("a").holder) == ("live", True)
    n1.lock("a").confirm()


@pytest.mark.parametrize("fails", [False, True], ids=["long", "failing"])
def test_24_a_running_claim_is_renewed_however_long_other_duties_take(world: World, *, fails: bool) -> None:
    """Another duty takes 15 s, or fails each time: the worker's claim stays its own all along."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("a")
    n1.unregister("a")
    (claim,) = n1.held_back
    end = world.time + 15

    def duty() -> Flow[bool]:
        yield Sleep(0)
        world.jump(TICK)
        assert world.clock < claim_ends(world), "the claim ran out"
        if fails:
            message = "no answer"
            raise Unavailable(message)
        return world.time < end

    n1.node.yield_wanted = duty  # type: ignore[method-assign]
    while world.time < end:
        n1.tick()
        world.jump(TICK / 4)
    n1.run(n1.keeper.done(claim))
    assert world.dump("due", "releases", "client") == {}


def test_24_what_waits_for_a_lost_owner_does_not_hide_what_is_due(world: World) -> None:
    """More deferred disconnects of a dead node than one claim looks at are due before one of a living node."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = False
    batch = [n1.node.registering(f"c{i}", "nfs", "", 10.0, None, None) for i in range(2 * BATCH_MAX)]
    n1.run(n1.node.in_batches(batch, n1.node.register))
    n1.lock("c0")
    n1.run(n1.node.in_batches([(item.client, 0) for item in batch], n1.node.unregister))
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().state is GraceState.ACTIVE
    world.jump(0.8)  # all of n1's are due by now, and a moment later one of n2's
    n2.run(n2.node.renew())
    n2.register("b", ttl=0.001)
    n2.unregister("b")
    world.jump(0.002)
    n2.tick()
    assert list(all_released(world)) == [("b", "disconnect")]


def test_20_no_more_is_claimed_than_workers_renew(world: World) -> None:
    """Many clients disconnect at once: what finds no room is due, and comes when there is room; nothing is lost."""
    n1 = world.node("n1", callback=False)
    names = [f"c{i}" for i in range(2 * BATCH_MAX + 1)]
    for name in names:
        n1.register(name)
    n1.unregister(names[0])
    for first in (1, BATCH_MAX + 1):
        batch = [(name.encode(), 0) for name in names[first : first + BATCH_MAX]]
        n1.run(n1.node.unregister(batch))
        assert len(n1.held_back) == 1, "not all of them would fit"
    n1.tick()
    assert len(n1.held_back) == len(n1.keeper.claims) == BATCH_MAX
    while n1.held_back:
        n1.releases.append(n1.held_back[-1].release)
        n1.run(n1.keeper.done(n1.held_back.pop()))
        n1.tick()
        assert len(n1.keeper.claims) <= BATCH_MAX
    assert sorted(client for client, _ in n1.released()) == sorted(names)


def test_20_claims_that_are_asked_for_take_room_already(world: World) -> None:
    """Two callers disconnect at once, and the keeper looks at the queue: together they claim what fits, no more."""
    n1 = world.node("n1", callback=False)
    items = [n1.node.registering(f"c{i}", "nfs", "", 0.0, None, None) for i in range(BATCH_MAX)]
    n1.run(n1.node.register(items))
    n1.register("d")
    n1.register("e")
    n1.node.room_for_claims = lambda: BATCH_MAX + 1 - len(n1.keeper.claims)
    first = n1.node.unregister([(item.client, 0) for item in items])
    second, third = n1.node.unregister([(b"d", 0)]), n1.node.unregister([(b"e", 0)])
    requests: list[Any] = [flow.send(None) for flow in (first, second, third)]
    assert [request.args[0] > 0 for request in requests] == [True, True, False]
    for flow, request in ((third, requests[2]), (second, requests[1])):
        with pytest.raises(StopIteration):
            flow.send(n1.send(request))
    n1.tick()
    assert len(n1.keeper.claims) == 1, "the keeper waits: the rest of the room is asked for"
    first.close()
    n1.tick()
    assert len(n1.keeper.claims) == 2


def test_20_a_node_without_a_callback_claims_nothing(world: World) -> None:
    """What its clients leave is due, for a node that frees it: that is told at once, not by the next heartbeat."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.node.claims_releases = False
    n1.register("a")
    n1.unregister("a")
    assert n1.keeper.claims == {}
    assert world.events()[-1] == "due"
    world.pass_time(1)
    assert n2.released() == [("a", "disconnect")]
