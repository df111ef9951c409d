"""Scenarios 7, 20 to 23, 25 and 27: clients and releases."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import (
    ClientHeld,
    ClientReleasing,
    ConnectionLimitReached,
    GraceState,
    InvalidArgument,
    NoGrace,
    OutcomeUnknown,
    ReclaimRefused,
    RegistrationRefused,
    StaleGrant,
)
from coordinator.api.driving import drive
from coordinator.protocol import releases
from tests.test_ids import IDS
from tests.world import GRACE, World, all_released

if TYPE_CHECKING:
    from coordinator.protocol import Call

LAPSE = 9.5
LIMIT = 100


def test_07_admission_is_refused_with_its_reason(world: World) -> None:
    """Normal state, one's own completion, a stranger, elsewhere, another principal: refused; roster unchanged."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", principal="alice")
    with pytest.raises(NoGrace):
        n1.admit("a")
    n1.start("a", "b", "c")
    world.settle()
    n1.register("stranger")
    with pytest.raises(ReclaimRefused, match="not_expected"):
        n1.admit("stranger")
    with pytest.raises(RegistrationRefused, match="principal"):
        n2.register("a", principal="mallory")
    n1.reclaim("a")
    with pytest.raises(ReclaimRefused, match="already"):
        n1.admit("a")
    n2.register("b")
    n1.node.registry.put(n2.node.registry.get(b"b"))  # type: ignore[arg-type]
    with pytest.raises(RegistrationRefused, match="moved"):
        n1.admit("b")
    assert n1.view().expected_clients == 3
    assert n1.view().reclaimed_clients == 1


def test_07_a_changed_verifier_gives_up_the_old_right(world: World) -> None:
    """The last pending client comes back rebooted: nobody is left to wait for, and its old locks are released."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", verifier="boot-1")
    n1.lock("a")
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().in_force
    n2.register("a", verifier="boot-2")
    world.settle()
    assert n2.view().state is GraceState.NORMAL
    assert ("a", "rebooted") in n2.released()
    assert n2.run(n2.node.view_clients([b"a"]))[0] is not None, "the new registration stays"


def test_07_a_repeated_last_completion_succeeds_after_the_lift(world: World) -> None:
    """The reply was lost; the retry finds `ALREADY`, which is a success."""
    n1 = world.node("n1")
    n1.start("a")
    n1.reclaim("a")
    assert n1.view().state is GraceState.NORMAL
    assert n1.complete("a").remaining == 0


def test_20_ttl_zero_is_released_by_the_same_round_trip(world: World) -> None:
    """The unregister itself claims; the callback runs without another look at the queue."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    n1.unregister("a")
    assert n1.released() == [("a", "disconnect")]
    assert world.redis.keys(world.key("client", "*")) == []


def test_20_ttl_is_waited_for_and_can_be_seen(world: World) -> None:
    """Not before the deadline, at once after it; the key's TTL shows the wait and PERSISTs on reconnect."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", ttl=60)
    assert world.redis.pttl(world.key("client", "a")) == -1
    n1.unregister("a")
    assert 0 < world.redis.pttl(world.key("client", "a")) <= 60_000 + 86_400_000
    world.pass_time(59)
    assert n1.releases == []
    world.pass_time(1.2)
    assert n1.released() == [("a", "disconnect")]
    assert n2.releases == []


def test_20_another_nodes_release_does_not_hide_ones_own(world: World) -> None:
    """A release that is left to its home node for 250 ms must not postpone the one that is due here before that."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a", ttl=1)
    n2.register("b", ttl=1.1)
    n1.unregister("a")
    n2.unregister("b")
    due = float(world.redis.zscore(world.key("due"), "b") or 0)
    world.jump(1.03)
    n2.tick()
    assert n2.releases == []
    assert n2.node.next_due_ms == due
    world.jump(0.1)
    n2.tick()
    assert n2.released() == [("b", "disconnect")]


def test_21_disconnect_here_reconnect_there_just_before_the_deadline(world: World) -> None:
    """Never released; the old node's late disconnect of the old generation is ignored."""
    n1, n2 = world.node("n1"), world.node("n2")
    old = n1.register("a", ttl=60)
    n1.lock("a")
    n1.unregister("a")
    world.pass_time(59)
    new = n2.register("a", ttl=60)
    assert new.holder, "its right moved along"
    assert new.generation > old.generation
    assert world.redis.pttl(world.key("client", "a")) == -1
    with pytest.raises(RegistrationRefused, match="moved"):
        n1.unregister("a", old.generation)
    world.pass_time(120)
    assert list(all_released(world)) == []
    assert world.redis.hexists(world.key("holders", n2.owner), "a")
    assert not world.redis.hexists(world.key("holders", n1.owner), "a")


def test_21_a_live_client_moves_when_its_home_has_closed_it(world: World) -> None:
    """Its open grant fails and is settled first; then the right goes along, and the old node hears `on_move`."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    open_grant = n1.begin_lock("a")
    with pytest.raises(ClientHeld):
        n2.register("a")  # not while a grant is open
    with pytest.raises(StaleGrant):
        open_grant.confirm()
    assert n2.register("a").holder
    world.settle()
    assert [(m.client_id, m.to) for m in n1.moves] == [("a", n2.owner)]
    assert not world.redis.hexists(world.key("holders", n1.owner), "a")
    assert world.redis.hexists(world.key("holders", n2.owner), "a")


def test_22_flapping_is_one_release_counted_from_the_last_disconnect(world: World) -> None:
    """Five flaps, one release, a full TTL after the last; a repeated disconnect postpones nothing."""
    n1 = world.node("n1")
    for _ in range(5):
        n1.register("a", ttl=10)
        n1.unregister("a")
        world.pass_time(6)
    n1.unregister("a")
    world.pass_time(3.5)
    assert n1.releases == []
    world.pass_time(1)
    assert n1.released() == [("a", "disconnect")]


def test_22_reconnect_after_the_deadline_but_before_the_claim_revives(world: World) -> None:
    """The deadline alone frees nothing: until a claim the client may come back, locks and place intact."""
    n1 = world.node("n1")
    n1.register("a", ttl=10)
    n1.lock("a")
    n1.unregister("a")
    n1.node.claims_releases = False
    world.pass_time(11)
    assert n1.register("a", ttl=10).holder
    n1.node.claims_releases = True
    world.pass_time(5)
    assert n1.releases == []


def test_23_reconnect_while_the_release_runs(world: World) -> None:
    """Told to retry, then registers fresh; never half of the locks."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = False
    n1.register("a")
    n1.lock("a")
    n1.unregister("a")
    (claim,) = n1.held_back
    for node in (n1, n2):
        with pytest.raises(ClientReleasing) as caught:
            node.register("a")
        assert 0 < caught.value.retry_after <= 10
    n1.run(n1.keeper.done(claim))
    fresh = n2.register("a")
    assert not fresh.holder
    assert claim.release.generation is not None
    assert fresh.generation > claim.release.generation


def test_23_missed_grace_and_registered_anew(world: World) -> None:
    """The old locks are released, up to the old generation; the new registration and its right stay."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n1.crash()
    world.pass_time(LAPSE)
    n2.register("a")
    world.pass_time(GRACE + 3)
    assert n2.view().state is GraceState.NORMAL
    (release,) = n2.releases
    assert (release.client_id, release.reason) == ("a", "forfeited")
    assert release.generation < n2.view_of("a").generation
    n2.lock("a")
    world.pass_time(5)
    assert len(n2.releases) == 1
    assert world.redis.hexists(world.key("holders", n2.owner), "a")


def test_23_a_claim_that_ran_out_is_another_nodes_and_its_late_ack_changes_nothing(world: World) -> None:
    """The worker died with the claim: another does it again; the first's late acknowledgement is stale."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.callback = False
    n1.register("a")
    n1.unregister("a")
    (claim,) = n1.held_back
    n1.crash()
    world.pass_time(12)
    assert n2.released() == [("a", "disconnect")]
    n2.register("a")
    adapters = n2.node.settings.adapters
    _, acked = n2.run(n2.node.ask(lambda head: releases.ack(n2.node.meta, head, [claim], adapters)))
    assert acked == [True], "gone already: a success that changes nothing"
    assert n2.run(n2.node.view_clients([b"a"]))[0] is not None


def test_23_a_failing_callback_is_tried_again_with_backoff(world: World) -> None:
    """The claim is given back for the backoff, then taken again; never dropped."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("a")
    n1.unregister("a")
    for _ in range(3):
        claim = n1.held_back.pop()
        n1.run(n1.keeper.failed(claim))
        world.pass_time(0.8)
    assert len(n1.held_back) == 1
    n1.run(n1.keeper.done(n1.held_back.pop()))
    assert world.redis.exists(world.key("releases")) == 0


def test_25_the_limit_is_exact_over_nodes(world: World) -> None:
    """200 registrations over four nodes, 100 places; a deferred client keeps its own; a dead node's come back."""
    settings = world.settings
    object.__setattr__(settings, "max_connections_per_adapter", {"smb": LIMIT})
    nodes = [world.node(f"n{i}") for i in range(4)]
    refused = 0
    for i in range(2 * LIMIT):
        try:
            nodes[i % 4].register(f"c{i}", adapter="smb", ttl=60)
        except ConnectionLimitReached:
            refused += 1
    assert refused == LIMIT
    nodes[0].unregister("c0")
    with pytest.raises(ConnectionLimitReached):
        nodes[1].register("late", adapter="smb")
    nodes[1].register("c0", adapter="smb", ttl=60)
    nodes[2].crash()
    world.pass_time(LAPSE)
    assert world.redis.scard(world.key("adapter", "smb")) == LIMIT * 3 // 4
    nodes[1].register("late", adapter="smb")


def test_25_the_limit_is_exact_within_a_batch(world: World) -> None:
    """Clients of one call take the places one by one; those that were released in between come back to the limit."""
    world.settings = replace(world.settings, max_connections=3)
    n1 = world.node("n1")

    def register(*clients: bytes) -> list[bool]:
        items = [n1.node.registering(client, "nfs", "", 0.0, None, None) for client in clients]
        return [isinstance(answer, ConnectionLimitReached) for answer in n1.run(n1.node.register(items))]

    assert register(b"a", b"b", b"a", b"c", b"d") == [False, False, False, False, True]
    assert world.redis.smembers(world.key("adapter", "nfs")) == {b"a", b"b", b"c"}
    n1.unregister("a")
    assert n1.released() == [("a", "disconnect")]
    assert register(b"d", b"a") == [False, True]


def test_25_a_client_whose_record_expired_has_its_place_still(world: World) -> None:
    """At the limit it may come back: its locks are not released yet, so its place was given to nobody."""
    world.settings = replace(world.settings, max_connections=1)
    n1 = world.node("n1")
    n1.register("a", ttl=60)
    n1.unregister("a")
    world.redis.delete(world.key("client", "a"))
    with pytest.raises(ConnectionLimitReached):
        n1.register("b")
    n1.register("a")
    assert world.redis.smembers(world.key("adapter", "nfs")) == {b"a"}
    world.pass_time(61)  # what was due still is


def test_25_changing_adapter_is_refused_changing_ttl_and_address_is_kept(world: World) -> None:
    """An adapter is for good; TTL and address are the last that were given."""
    n1 = world.node("n1")
    n1.register("a", adapter="nfs", ttl=1)
    with pytest.raises(RegistrationRefused, match="adapter"):
        n1.register("a", adapter="smb")
    n1.register("a", adapter="nfs", ttl=5, remote_addr="10.0.0.9:1")
    (view,) = n1.run(n1.node.view_clients([b"a"]))
    assert view is not None
    assert (view.ttl, view.remote_addr, view.adapter) == (5.0, "10.0.0.9:1", "nfs")


@pytest.mark.parametrize("raw", IDS, ids=repr)
def test_27_any_bytes_are_an_id(world: World, raw: bytes) -> None:
    """Registered, locked, listed, lost, reclaimed and released under the very same bytes."""
    n1, n2 = world.node("n1"), world.node("n2")
    name = raw.decode("utf-8", "surrogateescape")
    n1.register(raw, ttl=1)
    n1.lock(name)
    _, page = n1.run(n1.node.client_page("nfs", "0"))
    assert page == [raw]
    n1.crash()
    world.pass_time(LAPSE)
    assert n2.view().waiting_for == (name,)
    n2.register(raw, ttl=1)
    n2.admit(name).confirm()
    n2.complete(name)
    world.settle()
    n2.unregister(name)
    world.pass_time(2)
    assert n2.released() == [(name, "disconnect")]


@pytest.mark.parametrize("bad", ["", b"", "x" * 1025, b"y" * 1025, "\ud800", 7, None])
def test_27_bad_ids_are_refused_before_any_round_trip(world: World, bad: str) -> None:
    """The error names the value and the rule; nothing was sent."""
    n1 = world.node("n1")
    before = world.redis.hgetall(world.key("node", n1.owner))
    with pytest.raises(InvalidArgument, match=r"1 to 1024|must be str or bytes|cannot be written as UTF-8"):
        n1.register(bad)
    assert world.redis.hgetall(world.key("node", n1.owner)) == before


@pytest.mark.parametrize("bad", ["x" * 257, "\ud800", 7])
def test_27_bad_texts_are_refused_before_any_round_trip(world: World, bad: Any) -> None:
    """An address or a reason that cannot be stored: the error says which and why, no other call suffers from it."""
    n1 = world.node("n1")
    before = world.dump()
    with pytest.raises(InvalidArgument, match="remote_addr"):
        n1.register("a", remote_addr=bad)
    with pytest.raises(InvalidArgument, match="reason"):
        n1.run(n1.node.open_roster("wait", bad))
    with pytest.raises(InvalidArgument, match="reason"):
        n1.run(n1.node.end_grace(bad))
    assert world.dump() == before
    assert n1.check().allowed


def test_a_client_that_another_node_released_stays_closed_when_it_is_revoked(world: World) -> None:
    """n2 revoked and freed c, unheard by n1: n1's own revoke finds nothing, and c holds nothing more at n1."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.node.claims_releases = False
    n1.register("c")
    n1.lock("c")
    n2.run(n2.node.revoke(b"c"))
    world.redis.hset(world.key("client", "c"), "s", "leaving")  # or n2 would wait until n1 has closed the entry
    n2.node.due_at(world.clock)
    world.jump(1)
    world.redis.zadd(world.key("due"), {"c": world.clock - 500})
    n2.tick()
    assert n2.released() == [("c", "revoked")]
    with pytest.raises(RegistrationRefused, match="unknown"):
        n1.run(n1.node.revoke(b"c"))
    with pytest.raises(RegistrationRefused):
        n1.begin_lock("c")


def test_21_a_disconnect_of_a_registration_that_is_not_known_here_closes_nothing(world: World) -> None:
    """Another generation was named: refused, or its reply lost on the way; the client is served on, or not any more."""
    n1 = world.node("n1")
    generation = n1.register("a").generation
    with pytest.raises(RegistrationRefused, match="moved"):
        n1.unregister("a", generation + 5)
    n1.lock("a")

    def lost(call: Call[Any]) -> Any:
        raise OutcomeUnknown(call.script.name)

    with pytest.raises(OutcomeUnknown):
        drive(n1.node.unregister([(b"a", generation + 5)]), lost, lambda _: None)
    assert n1.node.registry.get(b"a") is None, "it may have been of a registration whose reply was lost"


def test_21_a_disconnect_closes_what_is_older_too(world: World) -> None:
    """The reply to the newest registration was lost; its disconnect leaves no entry behind that would still grant."""
    n1 = world.node("n1")
    n1.register("a", ttl=60)
    old = n1.node.registry.get(b"a")
    newest = n1.register("a", ttl=60).generation
    assert old is not None
    n1.node.registry.put(old)
    assert old.generation < newest
    assert n1.unregister("a", newest).due_in_seconds == 60
    with pytest.raises(RegistrationRefused):
        n1.lock("a")


@pytest.mark.parametrize("holds", [True, False], ids=["holder", "no holder"])
def test_21_a_cancel_whose_reply_was_lost_is_repeated_with_success(world: World, *, holds: bool) -> None:
    """The deferral is over and nobody was told: the repeat says so, and the client is served here again."""
    n1 = world.node("n1")
    n1.register("a", ttl=30)
    if holds:
        n1.lock("a")
    n1.unregister("a")

    def run(call: Call[Any]) -> Any:
        n1.send(call)
        raise OutcomeUnknown(call.script.name)

    with pytest.raises(OutcomeUnknown):
        drive(n1.node.cancel(b"a"), run, lambda _: None)
    assert n1.node.registry.get(b"a") is None
    assert n1.run(n1.node.cancel(b"a"))
    n1.lock("a").confirm()
    n1.unlock("a")
    assert n1.view_of("a").lock_count == (None if holds else 0)
    assert n1.view_of("a").holder is holds
    assert not n1.run(n1.node.cancel(b"a")), "there is none now"
    world.pass_time(60)
    assert n1.releases == []


@pytest.mark.parametrize("where", ["nowhere", "elsewhere", "leaving"])
def test_21_a_cancel_takes_nobody_whom_this_node_does_not_serve(world: World, where: str) -> None:
    """No deferral and no live registration of this node: False, and no entry."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.node.claims_releases = n2.node.claims_releases = False
    if where != "nowhere":
        (n2 if where == "elsewhere" else n1).register("a")
    if where == "leaving":
        n1.unregister("a")
    assert not n1.run(n1.node.cancel(b"a"))
    assert n1.node.registry.get(b"a") is None
