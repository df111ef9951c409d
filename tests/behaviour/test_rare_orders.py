"""Orders of events that take bad luck: what reviews found, and must not come back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator import BarrierPending, GraceState, OutcomeUnknown, errors
from coordinator.api.driving import drive
from tests.world import Player, World, all_released

LAPSE = 9.5
LOST = "no reply came"


def lost_reply(player: Any, flow: Any, between: Any = lambda: None, *, times: int = 1) -> Any:
    """Run a flow whose first replies are lost although executed; `between` acts after each."""
    left = times

    def send(call: Any) -> Any:
        nonlocal left
        reply = player.send(call)
        if left:
            left -= 1
            between()
            raise OutcomeUnknown(LOST)
        return reply

    return drive(flow, send, lambda _: None)


def given_up(world: World, flow: Any) -> Any:
    """Run a flow that gets no answer and gives up; return its last request, which is on its way still."""
    delayed: list[Any] = []

    def on_its_way(call: Any) -> Any:
        delayed.append(call)
        world.time += 0.4
        raise OutcomeUnknown(LOST)

    def sleep(rest: Any) -> None:
        world.time += rest.seconds

    with pytest.raises(OutcomeUnknown):
        drive(flow, on_its_way, sleep)
    return delayed[-1]


def confirms(grant: Any) -> bool:
    """Tell whether a grant still counts."""
    try:
        grant.confirm()
    except errors.StaleGrant:
        return False
    return True


def with_settings(world: World, name: str, **changes: Any) -> Player:
    """Let a node join whose settings differ."""
    common, world.settings = world.settings, replace(world.settings, **changes)
    try:
        return world.node(name)
    finally:
        world.settings = common


def test_23_a_release_waits_until_the_home_node_confirms_nothing_more(world: World) -> None:
    """n3 revokes what n1 grants: freed once n1 has closed the client's entry, and with it what it confirmed late."""
    n1, n3 = world.node("n1"), world.node("n3")
    n1.register("c")
    n1.lock("c")
    late, too_late = n1.begin_lock("c"), n1.begin_lock("c")
    n3.run(n3.node.revoke(b"c"))
    world.jump(0.3)
    for _ in range(3):
        n3.listen()
        n3.tick()
    assert n3.releases == []
    late.confirm()  # n1 has heard nothing yet
    n1.node.must_renew = True
    n1.tick()  # its heartbeat tells, should the event be lost
    n3.tick()
    assert list(all_released(world)) == [], "a grant is open still"
    assert not confirms(too_late)
    world.settle()
    assert list(all_released(world)) == [("c", "revoked")]


def test_31_a_late_eviction_does_nothing_once_its_caller_went_on(world: World) -> None:
    """A given-up eviction is cancelled by the first request after it that counts."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n2.register("d")
    n2.lock("d")
    n1.crash()
    while world.clock <= world.gone_at(n1):
        world.jump(0.4)
        n2.run(n2.node.renew())
    late = given_up(world, n2.node.evict([n1.owner]))
    n2.register("e")
    grant = n2.begin_lock("d")
    reply = world.run(late)
    assert reply.status == "LATE"
    assert confirms(grant)


def test_31_a_late_eviction_of_a_silent_caller_puts_nothing_in_force_beside_it(world: World) -> None:
    """Its caller sent nothing since: the eviction runs, and waits for the caller's own ack like everybody's."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n2.register("d")
    n2.lock("d")
    n1.crash()
    while world.clock <= world.gone_at(n1):
        world.jump(0.4)
        n2.run(n2.node.renew())
    late = given_up(world, n2.node.evict([n1.owner]))
    grant = n2.begin_lock("d")
    assert world.run(late).status == "EVICTED"
    assert not n2.view().in_force
    assert not confirms(grant)


def test_31_no_late_drop_takes_a_later_hold(world: World) -> None:
    """A given-up drop must not run after the hold that came next."""
    n1 = world.node("n1")
    n1.register("c")
    n1.lock("c")
    late = given_up(world, n1.node.uncount_lock(b"c"))
    n1.lock("c")
    world.run(late)
    assert world.redis.hexists(world.key("holders", n1.owner), "c"), "its lock has no right"


def test_07_a_completion_is_repeated_when_the_next_period_has_begun(world: World) -> None:
    """Its reply was lost, the period lifted, another one started: the repeat is a success still."""
    n1, n2, n3, n4 = (world.node(f"n{i}") for i in (1, 2, 3, 4))
    n1.register("c")
    n1.lock("c")
    n4.register("d")
    n4.lock("d")
    n1.crash()
    world.pass_time(LAPSE)
    n2.register("c")
    n2.admit("c").confirm()

    def between() -> None:
        for n in (n3, n4):
            n.listen()
            n.tick()
        n2.run(n2.node.renew())  # its keeper
        n2.run(n2.node.renew())
        assert n3.view().state is GraceState.NORMAL
        n4.leave()  # a planned hand-off: the next epoch
        assert n3.view().epoch == 2

    (outcome,) = lost_reply(n2, n2.node.complete([b"c"]), between)
    assert not isinstance(outcome, Exception), repr(outcome)
    assert outcome.repeated


def test_24_a_claim_that_is_answered_again_lasts_as_long_as_a_new_one(world: World) -> None:
    """A disconnect whose reply was lost is repeated just before its claim runs out: nobody else begins meanwhile."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = False
    n1.register("c")
    with pytest.raises(OutcomeUnknown):
        lost_reply(n1, n1.node.unregister([(b"c", 0)]), times=1_000)
    world.pass_time(9.6)
    assert n1.held_back == []
    n1.unregister("c")  # the server does it again: it is answered its own claim
    (claim,) = n1.held_back
    assert n1.keeper.may_begin(claim)  # the callback begins
    world.jump(0.7)
    n2.tick()
    assert n2.released() == [], "two nodes would free it at once"


def test_14_a_hung_member_with_a_longer_lease_does_not_use_up_the_grace(world: World) -> None:
    """The cap leaves room for the longest lease of the members, not only of the lost owner."""
    n1 = with_settings(world, "n1", grace_seconds=5.0)
    n3 = with_settings(world, "n3", grace_seconds=5.0)
    n2 = with_settings(world, "n2", grace_seconds=5.0, lease_seconds=60.0)
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(LAPSE - 2)
    n2.crash()
    world.pass_time(2)
    assert n3.view().state is GraceState.ACTIVE
    n3.register("c")
    for _ in range(400):
        world.pass_time(0.4)
        try:
            n3.admit("c").confirm()
        except BarrierPending:
            continue
        except errors.CoordinatorError as error:
            pytest.fail(f"never admitted, then final: {error!r}; released: {n3.released()}")
        break
    else:
        pytest.fail("never admitted")


def test_20_a_release_whose_record_expired_ends_the_right(world: World) -> None:
    """The record went before its release was due: what is freed cannot be reclaimed under a new registration."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c", ttl=20)
    n1.lock("c")
    n1.unregister("c")
    world.redis.delete(world.key("client", "c"))  # its TTL ran out: the machine's clock was set forward
    n2.register("c", adapter="smb")
    world.pass_time(21)
    assert [r for r in all_released(world) if r[0] == "c"] == [("c", "disconnect")]
    n1.crash()
    world.pass_time(LAPSE)
    try:
        n2.admit("c")
    except errors.NoGrace:
        return
    pytest.fail("the right that was released is reclaimed")


def test_20_a_release_whose_record_expired_gives_back_all_places(world: World) -> None:
    """Neither the old adapter place nor the entry of the old owner stays."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c", ttl=20)
    n1.unregister("c")
    world.redis.delete(world.key("client", "c"))
    n2.register("c", adapter="smb")
    world.pass_time(21)
    n2.unregister("c")
    world.pass_time(5)
    assert not world.redis.exists(world.key("client", "c"))
    assert not world.redis.exists(world.key("adapter", "nfs"), world.key("adapter", "smb"))
    assert not world.redis.exists(world.key("clients", n1.owner))


def test_14_a_crash_loop_does_not_grow_the_rosters_without_bound(world: World) -> None:
    """Owners with clients but without holders count for the limit of rosters too."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().in_force
    for i in range(205):
        node = Player(world, "looping")
        node.register(f"x{i}")
        node.leave()
    assert world.redis.scard(world.key("lost")) <= 200


def test_16_an_eviction_long_ago_is_no_lost_data(world: World) -> None:
    """Its record has expired: a node that was stopped for longer than the retention is told that it was evicted."""
    n1 = with_settings(world, "n1", retention_seconds=1.0)
    world.node("n2")
    n1.crash()
    world.pass_time(LAPSE)
    world.redis.delete(world.key("node", n1.owner))  # its TTL ran out
    n1.alive = True
    world.pass_time(5)
    assert n1.ended == ["evicted"]
    assert "lost" not in world.events()
    assert world.redis.hget(world.key("meta"), "before") is None


def test_21_a_repeated_registration_does_not_take_the_client_back(world: World) -> None:
    """The reply was lost, and the client connected elsewhere before the repeat."""
    n2, n3 = world.node("n2"), world.node("n3")
    item = n2.node.registering("c", "nfs", "", 0, None, None)
    lost_reply(n2, n2.node.register([item]), lambda: n3.register("c"))
    assert n3.view_of("c").owner == n3.owner


def test_21_a_repeated_revoke_does_not_end_a_newer_registration(world: World) -> None:
    """The reply was lost, and the client connected anew before the repeat."""
    n2, n3 = world.node("n2"), world.node("n3")
    n2.register("c")
    lost_reply(n2, n2.node.revoke(b"c"), lambda: n3.register("c"))
    world.settle()
    assert n3.view_of("c").state == "live"


def test_20_a_page_of_another_nodes_releases_does_not_hide_ones_own(world: World) -> None:
    """Sixty releases of a node without callback are due before: the own one comes within 40 ms."""
    n1, n2 = world.node("n1"), world.node("n2")
    for i in range(60):
        n1.register(f"x{i}", ttl=5)
    n2.register("own", ttl=5)
    for i in range(60):
        n1.unregister(f"x{i}")
    n2.unregister("own")
    world.settle()
    n1.node.claims_releases = False  # no callback there, or its workers are all busy
    world.jump(5)
    n2.run(n2.node.renew())
    due = world.clock
    world.jump(0.001)
    n2.tick()
    for _ in range(40):
        if ("own", "disconnect") in n2.released():
            break
        world.jump(0.005)
        n2.tick()
    assert ("own", "disconnect") in n2.released()
    assert world.clock - due <= 40


def test_09_a_predecessor_stated_dead_lapses_by_its_own_margin(world: World) -> None:
    """It is evicted at once, whatever its settings were."""
    n1 = with_settings(world, "n1", barrier_margin_seconds=5.0)
    world.node("n2")
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.jump(1)
    again = world.node("n1", dead=True)
    assert again.view().state is GraceState.ACTIVE


def test_24_what_is_put_back_after_the_cap_is_not_asked_for_without_end(world: World) -> None:
    """A period that closes after its cap: the deferred disconnects of the dead node are looked at now and then."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for c in ("a", "b"):
        n1.register(c, ttl=12)
        n1.lock(c)
    n1.unregister("a")
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().in_force
    n2.run(n2.node.end_grace("test"))
    n3.crash()  # never acks the close
    fields = str(world.redis.hget(world.key("meta"), "view"), "ascii").split(" ")  # type: ignore[arg-type]
    fields[7] = str(world.clock)  # as after extensions up to the cap
    world.redis.hset(world.key("meta"), "view", " ".join(fields))
    world.pass_time(3)
    assert n2.view().closing
    asked = 0
    send = n2.send

    def counting(call: Any) -> Any:
        nonlocal asked
        asked += call.script.name == "release_claim"
        return send(call)

    n2.send = counting  # type: ignore[method-assign]
    for _ in range(200):
        world.jump(0.001)
        n2.tick()
    assert asked < 20, f"{asked} claims in 200 ms"


def test_20_the_same_client_twice_in_a_batch_is_released_once(world: World) -> None:
    """One of the two equal claims begins."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("c")
    n1.run(n1.node.unregister([(b"c", 0), (b"c", 0)]))
    begun = [claim for claim in n1.held_back if n1.keeper.may_begin(claim)]
    assert len({c.client for c in begun}) == 1
    assert len(begun) == 1


def test_20_unregistered_twice_while_the_workers_are_busy(world: World) -> None:
    """The claim that is queued begins, by whichever of its tokens."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("c")
    n1.unregister("c")
    n1.unregister("c")  # another thread of the server does it too; the first is still queued
    assert [n1.keeper.may_begin(claim) for claim in n1.held_back] == [True]


def test_03_an_orphans_end_takes_no_client_off_a_restored_roster(world: World) -> None:
    """What ends with a node that held nothing for it is its registration there, no right."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")  # it holds nothing there
    n1.leave()
    n2.start("c")  # what n2 found in its lock store
    assert n2.view().waiting_for == ("c",)
    world.settle()
    world.pass_time(1)
    assert n2.view().waiting_for == ("c",)
    assert n2.released() == [("c", "orphaned")]
    assert n2.reclaim("c").remaining == 0


def test_44_what_is_being_freed_is_not_expected(world: World) -> None:
    """An orphaned registration's release is queued: whatever the store still has of it goes with that."""
    n1, n2 = world.node("n1"), world.node("n2")
    n2.node.claims_releases = False
    n1.register("c")
    n1.leave()
    world.settle()  # drained
    started = n2.start("c")
    assert (started.epoch, started.forfeited) == (None, 1)


def test_12_a_lock_that_was_reclaimed_but_not_completed_is_freed(world: World) -> None:
    """Its client moved on before it completed, as no holder and its new node dies: the release covers that lock too."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("c")
    n1.lock("c")
    n1.crash()
    world.pass_time(LAPSE)
    n2.register("c")
    grant = n2.admit("c")
    grant.confirm()
    with pytest.raises(errors.ClientHeld):
        n3.register("c")
    n2.run(n2.node.end_grace("test"))
    world.settle()
    n3.register("c")
    n3.crash()
    world.pass_time(2 * LAPSE)
    freed = [release.generation for release in n2.releases if release.client_id == "c"]
    assert any(generation is not None and generation >= grant.generation for generation in freed)
