"""Scenarios 42 and 43: releases of one client one after the other, and what is revoked while a home may grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator import ClientReleasing, GraceState, NoGrace, OutcomeUnknown, ReclaimRefused, RegistrationRefused
from tests.orders import LAPSE, confirms, counting, first_answer, lose, lost_reply, make_deaf, registering, state_of
from tests.world import GRACE, World, all_released

if TYPE_CHECKING:
    from tests.world import Player


# -- 42: one release at a time, for what each covers ------------------------------------------------------------------


def forfeited_under_way(world: World, *, ttl: float = 30.0) -> tuple[Player, Player, list[int]]:
    """Let a's release be under way at n2, while a is registered anew at n3; return both nodes and a's generations."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    old = n1.register("a").generation
    n1.lock("a")
    n1.crash()
    n2.callback = False
    n3.node.claims_releases = False
    world.pass_time(LAPSE)
    new = n3.register("a", ttl=ttl).generation
    n2.run(n2.node.end_grace("test"))
    world.pass_time(0.8)  # n3, where the client is, is preferred for 250 ms
    assert [(claim.client, claim.release.generation) for claim in n2.held_back] == [(b"a", old)]
    assert n3.check().allowed
    return n2, n3, [old, new]


def finish(node: Player) -> None:
    """Let the workers of a node be done with what they have, and look at the queue again."""
    node.callback = True
    for claim in node.held_back:
        node.releases.append(claim.release)
        node.run(node.keeper.done(claim))
    node.held_back.clear()
    node.world.settle()


def frees(node: Player) -> list[tuple[str, int, str]]:
    """Return what was freed at a node: client, up to which generation, reason."""
    return [(release.client_id, release.generation, release.reason) for release in node.releases]


def test_42_a_disconnect_while_a_forfeited_release_is_under_way_comes_at_its_time(world: World) -> None:
    """Its due is not moved by that release, and its own release covers the new registration."""
    n2, n3, (old, new) = forfeited_under_way(world)
    n3.lock("a")
    n3.unregister("a")
    world.pass_time(5)
    finish(n2)
    world.pass_time(24)
    assert frees(n2) == [("a", old, "forfeited")]
    assert state_of(world, "a") == "deferred"
    world.pass_time(2)
    assert frees(n2) == [("a", old, "forfeited"), ("a", new, "disconnect")]
    assert world.dump("client", "adapter", "due", "releases", "holders") == {}


def test_42_a_disconnect_that_is_over_before_that_release_waits_for_its_acknowledgement(world: World) -> None:
    """One release of a client at a time: the acknowledgement arms what came due meanwhile."""
    n2, n3, (old, new) = forfeited_under_way(world, ttl=1)
    n3.lock("a")
    n3.unregister("a")
    n3.node.claims_releases = True
    world.pass_time(20)
    assert list(all_released(world)) == []
    assert len(n2.held_back) == 1
    finish(n2)
    world.pass_time(1)
    assert sorted(frees(n2) + frees(n3)) == [("a", old, "forfeited"), ("a", new, "disconnect")]


@pytest.mark.parametrize("unregister", ["before", "after"])
def test_42_a_disconnect_at_once_while_that_release_is_under_way(world: World, unregister: str) -> None:
    """TTL 0, before or after the acknowledgement: the caller gets no claim of what another is at."""
    n2, n3, (old, new) = forfeited_under_way(world, ttl=0)
    n3.node.claims_releases = True
    n3.lock("a")
    if unregister == "after":
        finish(n2)
    n3.unregister("a")
    if unregister == "before":
        assert n3.releases == []
        finish(n2)
    world.pass_time(1)
    assert sorted(frees(n2) + frees(n3)) == [("a", old, "forfeited"), ("a", new, "disconnect")]
    assert world.dump("client", "adapter", "due", "releases", "holders") == {}


def test_42_who_comes_back_while_that_release_is_under_way_is_served(world: World) -> None:
    """Only what was forfeited is freed: neither the new registration nor its lock."""
    n2, n3, (old, _) = forfeited_under_way(world)
    n3.lock("a")
    n3.unregister("a")
    newest = n3.register("a", ttl=30)
    assert newest.holder
    finish(n2)
    world.pass_time(60)
    assert list(all_released(world)) == [("a", "forfeited")]
    assert frees(n2) == [("a", old, "forfeited")]
    assert world.rights() == {"a": (n3.owner, newest.generation)}
    n3.lock("a").confirm()


def test_42_forfeited_again_while_that_release_is_under_way(world: World) -> None:
    """`more` keeps what came meanwhile, the greatest generation of it; the acknowledgement arms it."""
    n2, n3, (old, new) = forfeited_under_way(world)
    n3.lock("a")
    lose(world, n3)
    assert n2.view().epoch == 2
    n2.run(n2.node.end_grace("test"))
    world.settle()
    entry = world.redis.hget(world.key("releases"), "a")
    assert entry is not None
    assert entry.split()[-1] == b"%d:forfeited" % new
    assert len(n2.held_back) == 1, "one at a time"
    finish(n2)
    world.pass_time(1)
    assert frees(n2) == [("a", old, "forfeited"), ("a", new, "forfeited")]
    assert world.dump("client", "adapter", "due", "releases", "holders") == {}


def test_42_a_release_whose_claim_runs_out_keeps_what_came_meanwhile(world: World) -> None:
    """The worker dies with it: who claims next does the same work first, and then `more`."""
    n2, n3, (old, new) = forfeited_under_way(world)
    n4 = world.node("n4")
    n3.lock("a")
    lose(world, n3)
    n4.run(n4.node.end_grace("test"))
    world.settle()
    n2.crash()
    world.pass_time(LAPSE + 12)
    assert frees(n4) == [("a", old, "forfeited"), ("a", new, "forfeited")]


# -- 43: revoked elsewhere --------------------------------------------------------------------------------------------


def revoke(player: Player, client: str) -> None:
    """Revoke a client."""
    player.run(player.node.revoke(client.encode()))


def test_43_a_client_of_a_hung_home_is_revoked(world: World) -> None:
    """Its right ends at once, its locks are freed when its home is gone: until then that may confirm one more."""
    n1, n3 = world.node("n1"), world.node("n3")
    n1.register("a")
    n1.lock("a")
    late = n1.begin_lock("a")
    n1.crash()
    revoke(n3, "a")
    assert world.rights() == {}
    with pytest.raises(ClientReleasing):
        n3.register("a")
    gone = world.gone_at(n1)
    while world.clock + 400 < gone:
        world.pass_time(0.4)
        assert n3.releases == []
        if world.time < 1000 + world.settings.validity_seconds - 1:
            assert n1.node.lease.is_valid(world.time)
    late.undo()
    world.pass_time(2)
    assert n3.released() == [("a", "revoked")]
    assert n3.view().state is GraceState.NORMAL, "it was its only client: its death costs no grace"
    assert world.dump("client", "adapter", "due", "releases", "orphans") == {}


def test_43_a_client_that_was_revoked_may_not_reclaim(world: World) -> None:
    """Its home dies meanwhile: it is on no roster, and its locks are freed before the grace of the others is over."""
    n1, n3 = world.node("n1"), world.node("n3")
    for client in ("a", "b"):
        n1.register(client)
        n1.lock(client)
    n1.crash()
    revoke(n3, "a")
    world.pass_time(LAPSE)
    assert n3.view().waiting_for == ("b",)
    new = n3.register("a")
    assert (new.holder, new.must_reclaim) == (False, False)
    with pytest.raises(ReclaimRefused, match="not_expected"):
        n3.admit("a")
    assert n3.reclaim("b").lifted
    world.pass_time(GRACE)
    assert n3.released() == [("a", "revoked")]
    assert world.rights().keys() == {"b"}


def test_43_a_live_home_closes_who_was_revoked_at_once(world: World) -> None:
    """It hears of it, waits for its open grants, and says so: freed at once then, long before its lease is over."""
    n1, n3 = world.node("n1"), world.node("n3")
    n1.register("a")
    n1.lock("a")
    grant = n1.begin_lock("a")
    revoke(n3, "a")
    world.settle()
    assert list(all_released(world)) == [], "n1 may be in the middle of an insert"
    assert not confirms(grant)
    world.settle()
    assert list(all_released(world)) == [("a", "revoked")]
    with pytest.raises(RegistrationRefused):
        n1.begin_lock("a")
    assert world.dump("client", "adapter", "due", "releases", "wanted") == {}


def test_43_a_home_without_events_closes_who_was_revoked_by_its_heartbeat(world: World) -> None:
    """The event is lost: one heartbeat later."""
    n1, n3 = world.node("n1"), world.node("n3")
    n1.register("a")
    n1.lock("a")
    make_deaf(n1)
    revoke(n3, "a")
    world.pass_time(world.settings.heartbeat_seconds + 0.5)
    assert list(all_released(world)) == [("a", "revoked")]


@pytest.mark.parametrize("state", ["deferred", "yielded", "leaving", "live here"])
def test_43_whoever_is_closed_already_is_freed_at_once(world: World, state: str) -> None:
    """Nobody confirms anything for it: nothing is waited for, and it is freed once."""
    n1, n3 = world.node("n1"), world.node("n3")
    n1.node.claims_releases = False
    home = n3 if state == "live here" else n1
    home.register("a", ttl=0 if state == "leaving" else 60)
    home.lock("a")
    if state == "yielded":
        first_answer(n3, registering(n3, "a"))
        n1.listen()
        n1.tick()
    elif state in {"deferred", "leaving"}:
        n1.unregister("a")
    if state != "live here":
        assert state_of(world, "a") == state
    n1.crash()
    revoke(n3, "a")
    assert state_of(world, "a") == "leaving"
    assert world.rights() == {}
    world.jump(0.3)
    n3.tick()
    assert n3.released() == [("a", "revoked")]
    world.pass_time(2 * GRACE)
    assert len(n3.releases) == 1
    assert world.dump("client", "adapter", "due", "releases") == {}


def test_43_a_disconnect_of_who_was_revoked_says_that_its_home_has_closed_it(world: World) -> None:
    """The home has not heard of the revoke when its client leaves: it is freed at once, and once, TTL or not."""
    n1, n3 = world.node("n1"), world.node("n3")
    n3.node.claims_releases = False
    n1.register("a", ttl=60)
    n1.lock("a")
    revoke(n3, "a")
    assert state_of(world, "a") == "revoked"
    assert n1.unregister("a").due_in_seconds == 0
    assert n1.released() == [("a", "revoked")]
    world.pass_time(GRACE + 5)
    assert list(all_released(world)) == [("a", "revoked")]
    assert world.dump("client", "adapter", "due", "releases", "wanted") == {}


def test_43_who_was_revoked_registers_anew_at_its_own_home(world: World) -> None:
    """The home has closed the old entry by that: the old locks are due, the new registration stays."""
    n1, n3 = world.node("n1"), world.node("n3")
    old = n1.register("a").generation
    n1.lock("a")
    revoke(n3, "a")
    new = n1.register("a")
    assert not new.holder
    n1.lock("a")
    world.settle()
    world.pass_time(1)
    assert frees(n1) + frees(n3) == [("a", old, "revoked")]
    assert world.rights() == {"a": (n1.owner, new.generation)}
    n1.lock("a").confirm()


def test_43_a_repeated_revoke_does_not_end_a_newer_registration(world: World) -> None:
    """Revoked at its own home by a call whose reply was lost; the release is over and a is back before the repeat."""
    n2, n3 = world.node("n2"), world.node("n3")
    n2.register("c")

    def between() -> None:
        world.settle()
        n3.register("c")

    lost_reply(n2, n2.node.revoke(b"c"), between)
    world.settle()
    assert n3.view_of("c").state == "live"


# -- what else meets in the queue -------------------------------------------------------------------------------------


def test_20_a_release_whose_record_expired_ends_the_right(world: World) -> None:
    """The record went before its release was due: what is freed cannot be reclaimed under a new registration."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c", ttl=20)
    n1.lock("c")
    n1.unregister("c")
    world.redis.delete(world.key("client", "c"))  # its TTL ran out: the machine's clock was set forward
    n2.register("c", adapter="smb")
    world.pass_time(21)
    assert list(all_released(world)) == [("c", "disconnect")]
    assert world.rights() == {}
    lose(world, n1)
    with pytest.raises(NoGrace):
        n2.admit("c")


@pytest.mark.parametrize("home", ["n1", "n2"])
def test_20_who_locks_anew_after_its_record_expired_has_one_right(world: World, home: str) -> None:
    """The right that its pending release frees ends with the new registration: it outlives neither the release nor n1.

    At another node or at the same one, the new lock stays.
    """
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    n1.register("c", ttl=20)
    n1.lock("c")
    n1.unregister("c")
    world.redis.delete(world.key("client", "c"))  # its TTL ran out: the machine's clock was set forward
    here = n1 if home == "n1" else n2
    registered = here.register("c")
    assert (registered.holder, world.rights()) == (False, {})
    here.lock("c")
    rights = {"c": (here.owner, registered.generation)}
    assert world.rights() == rights
    world.pass_time(21)
    assert list(all_released(world)) == [("c", "disconnect")]
    assert world.rights() == rights
    lose(world, n2 if here is n1 else n1)
    assert n3.view().state is GraceState.NORMAL


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


def test_24_what_is_put_back_after_the_cap_is_not_asked_for_without_end(world: World) -> None:
    """A period that closes after its cap: the deferred disconnects of the dead node are looked at now and then."""
    n1, n2, n3 = (world.node(f"n{i}") for i in (1, 2, 3))
    for client in ("a", "b"):
        n1.register(client, ttl=12)
        n1.lock(client)
    n1.unregister("a")
    lose(world, n1)
    assert n2.view().in_force
    n2.run(n2.node.end_grace("test"))
    n3.crash()  # never acks the close
    view = n2.node.lease.view.raw.rsplit(b" ", 1)[0] + b" %d" % world.clock
    world.redis.hset(world.key("meta"), "view", view)  # as after extensions up to the cap
    world.pass_time(3)
    assert n2.view().closing
    asked = counting(n2)
    for _ in range(200):
        world.jump(0.001)
        n2.tick()
    assert asked.count("release_claim") < 20, "in 200 ms"


def test_20_the_same_client_twice_in_a_batch_is_released_once(world: World) -> None:
    """One of the two equal claims begins."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("c")
    n1.run(n1.node.unregister([(b"c", 0), (b"c", 0)]))
    begun = [claim for claim in n1.held_back if n1.keeper.may_begin(claim)]
    assert len(begun) == 1


def test_20_unregistered_twice_while_the_workers_are_busy(world: World) -> None:
    """The claim that is queued begins, by whichever of its tokens."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("c")
    n1.unregister("c")
    n1.unregister("c")  # another thread of the server does it too; the first is still queued
    assert [n1.keeper.may_begin(claim) for claim in n1.held_back] == [True]
