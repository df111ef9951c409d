"""One turn per client, grants that are overtaken, what the end of a life leaves, and events that nobody heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import ClientHeld, Fenced, GraceState, Reason, RegistrationRefused, StaleGrant, errors
from coordinator.api.driving import drive
from coordinator.node import Sleep
from tests.orders import DOWN, faulty
from tests.world import Player, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.node import Flow
    from coordinator.protocol import Call

LAPSE = 9.5


def go_on(player: Player, flow: Flow[Any], reply: Any = None) -> Any:
    """Let a flow go on with a reply to its end; return what it returns."""
    while True:
        try:
            request = flow.send(reply)
        except StopIteration as stop:
            return stop.value
        reply = None if isinstance(request, Sleep) else player.send(request)  # type: ignore[arg-type]


def registering(player: Player, client: str, verifier: str | None = None) -> Flow[Any]:
    """Return the flow of a registration."""
    return player.node.register([player.node.registering(client, "nfs", "", 0, verifier, None)])


def is_holder(player: Player, client: str) -> bool:
    """Tell whether Redis has a client as a holder under this node."""
    return player.world.rights().get(client, ("", 0))[0] == player.owner


# -- whatever ends or renews a registration waits for its open grants --------------------------------------------------


@pytest.mark.parametrize("by", ["unregister", "register"])
def test_23_a_grant_that_is_open_is_overtaken_and_undone_before_its_registration_ends(world: World, by: str) -> None:
    """Its confirm fails from that moment on; what ends or renews the registration is sent when the lock is undone."""
    n1 = world.node("n1")
    first = n1.register("a").generation
    grant = n1.begin_lock("a")
    flow = n1.node.unregister([(b"a", 0)]) if by == "unregister" else registering(n1, "a")
    assert isinstance(flow.send(None), Sleep), "it waits for the insert"
    assert n1.view_of("a").generation == first
    with pytest.raises(StaleGrant):
        grant.confirm()
    go_on(n1, flow)
    world.settle()
    assert not is_holder(n1, "a"), "the lock is counted back, and with the last one goes the right"
    if by == "unregister":
        assert n1.released() == [("a", "disconnect")]
    else:
        assert n1.view_of("a").lock_count == 0


def test_23_a_grant_that_nobody_ends_costs_its_client_nothing_but_the_call(world: World) -> None:
    """The disconnect is refused and says what to do; the registration is as it was, and so is the grant."""
    n1 = world.node("n1")
    n1.register("a")
    grant = n1.begin_lock("a")
    with pytest.raises(errors.Unavailable, match="confirm or undo"):
        n1.unregister("a")
    grant.confirm()
    assert n1.view_of("a").lock_count == 1
    n1.unregister("a")


def test_23_undoing_an_old_grant_leaves_the_newer_registrations_right(world: World) -> None:
    """The right came along: of two locks the one that was not confirmed is counted back, and the other one stays."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    grant = n1.begin_lock("a")
    flow = registering(n1, "a")
    assert isinstance(flow.send(None), Sleep)
    with pytest.raises(StaleGrant):
        grant.confirm()
    go_on(n1, flow)
    world.settle()
    assert n1.view_of("a").lock_count == 1
    assert is_holder(n1, "a")
    grant.undo()
    assert n1.view_of("a").lock_count == 1, "once is enough"


# -- a client's calls come one after the other -------------------------------------------------------------------------


def test_23_a_grant_is_of_the_registration_that_its_lock_counts_for(world: World) -> None:
    """It waited while its client registered again: granted under the new registration, and undone there."""
    n1 = world.node("n1")
    n1.register("a")
    hold = n1.node.count_lock(b"a")
    reply = n1.send(hold.send(None))  # type: ignore[arg-type]
    registration, flow = registering(n1, "a"), n1.node.begin_grant(b"a")
    assert isinstance(registration.send(None), Sleep)
    assert isinstance(flow.send(None), Sleep)
    go_on(n1, hold, reply)
    n1.unlock("a")
    (registered,) = go_on(n1, registration)
    grant = go_on(n1, flow)
    assert grant.generation == registered.generation
    grant.confirm()
    n1.unlock("a")
    assert n1.view_of("a").lock_count == 0
    assert not is_holder(n1, "a")


def test_23_a_registration_waits_for_the_hold_under_way_and_its_locks_are_kept(world: World) -> None:
    """The hold is answered first: its lock counts for the registration that follows; of two locks one goes."""
    n1 = world.node("n1")
    n1.register("a")
    flow = n1.node.count_lock(b"a")
    reply = n1.send(flow.send(None))  # type: ignore[arg-type]
    registration = registering(n1, "a")
    assert isinstance(registration.send(None), Sleep)
    assert go_on(n1, flow, reply) == 1
    (registered,) = go_on(n1, registration)
    assert (registered.holder, registered.lock_count) == (True, 1)
    n1.run(n1.node.count_lock(b"a"))
    n1.unlock("a")
    assert n1.view_of("a").lock_count == 1
    assert is_holder(n1, "a")


def test_23_a_move_waits_for_the_hold_under_way_and_takes_the_right_along(world: World) -> None:
    """Asked for while its hold is under way, the client is yielded after it, as a holder."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n1.unlock("a")
    flow = n1.node.begin_grant(b"a")
    reply = n1.send(flow.send(None))  # type: ignore[arg-type]
    with pytest.raises(ClientHeld):
        n2.register("a")
    go_on(n1, flow, reply).confirm()
    world.settle()
    assert n2.register("a").holder
    world.settle()
    assert [(move.client_id, move.to) for move in n1.moves] == [("a", n2.owner)]
    with pytest.raises(RegistrationRefused):
        n1.lock("a")


def test_23_a_reboot_waits_for_the_hold_under_way_and_ends_its_right(world: World) -> None:
    """What was granted just before the client registered with another verifier is freed; nothing is counted on."""
    n1 = world.node("n1")
    old = n1.register("a", verifier="one")
    flow = n1.node.count_lock(b"a")
    reply = n1.send(flow.send(None))  # type: ignore[arg-type]
    registration = registering(n1, "a", "two")
    assert isinstance(registration.send(None), Sleep)
    assert go_on(n1, flow, reply) == 1
    (registered,) = go_on(n1, registration)
    assert (registered.holder, registered.lock_count) == (False, 0)
    assert not is_holder(n1, "a")
    world.settle()
    assert [(r.generation, r.reason) for r in n1.releases] == [(old.generation, "rebooted")]
    n1.lock("a")
    assert is_holder(n1, "a")


@pytest.mark.parametrize("hears", [False, True])
@pytest.mark.parametrize("there", ["live", "deferred"])
def test_21_a_right_that_was_away_is_not_counted_on(world: World, there: str, *, hears: bool) -> None:
    """A went n1, n2, n1: what it has locked at n2 is not known at n1, heard or not, so no unlock drops its right."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n2.register("a", ttl=60)
    n2.lock("a")
    if there == "deferred":
        n2.unregister("a")
    if hears:
        n1.listen()
    assert n1.register("a").lock_count is None
    n1.lock("a")
    n1.unlock("a")
    n1.unlock("a")
    world.settle()
    assert is_holder(n1, "a")
    if hears:
        assert [(move.client_id, move.to) for move in n1.moves] == [("a", n2.owner)]


def held(world: World) -> tuple[Player, Player]:
    """Return n1, which hangs, has A with a lock and has heard that n2 asks for it, and n2, which was refused."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    n1.hangs = True
    with pytest.raises(ClientHeld):
        n2.register("a")
    n1.listen()
    return n1, n2


def yielded(world: World) -> tuple[Player, Player]:
    """Return n1, which has yielded A with a lock, and n2, which asked for it and has not taken it yet."""
    n1, n2 = held(world)
    n1.tick()
    assert n2.view_of("a").state == "yielded"
    return n1, n2


@pytest.mark.parametrize("call", ["register", "unregister", "revoke"])
def test_36_a_call_that_was_not_executed_leaves_a_yielded_client_closed(world: World, call: str) -> None:
    """Nothing was reached: n2 may take the client at any moment, so n1 confirms nothing for it meanwhile."""
    n1, n2 = yielded(world)
    flows: dict[str, Callable[[], Flow[Any]]] = {
        "register": lambda: registering(n1, "a"),
        "unregister": lambda: n1.node.unregister([(b"a", 0)]),
        "revoke": lambda: n1.node.revoke(b"a"),
    }
    with pytest.raises(errors.Unavailable):
        faulty(n1, flows[call](), DOWN, DOWN, DOWN)
    assert n1.node.registry.get(b"a") is None
    assert n2.register("a").holder
    n1.listen()
    assert [(move.client_id, move.to) for move in n1.moves] == [("a", n2.owner)]


@pytest.mark.parametrize("call", ["register", "unregister", "revoke"])
def test_36_who_was_yielded_and_not_taken_is_its_homes_to_register_and_to_end(world: World, call: str) -> None:
    """What its home does with it counts, as if it had never been asked for; nothing is taken back later."""
    n1, n2 = yielded(world)
    if call == "register":
        assert n1.register("a").holder
        n1.lock("a")
    elif call == "unregister":
        n1.unregister("a")
    else:
        n1.run(n1.node.revoke(b"a"))
    world.pass_time(5)
    assert n1.moves == []
    assert n1.node.registry.yielding == {}
    reason = {"register": [], "unregister": [("a", "disconnect")], "revoke": [("a", "revoked")]}
    assert n1.released() + n2.released() == reason[call]
    assert is_holder(n1, "a") is (call == "register")


def test_35_a_client_that_is_taken_before_its_home_has_the_reply_to_the_yield(world: World) -> None:
    """The event says so first: the server is told of the move, once, and the keeper goes on."""
    n1, n2 = held(world)
    n1.run(n1.node.renew())
    flow = n1.node.yield_wanted()
    reply = n1.send(flow.send(None))  # type: ignore[arg-type]
    assert n2.register("a").holder
    n1.listen()
    assert go_on(n1, flow, reply) is False
    world.pass_time(3)
    assert [(move.client_id, move.to) for move in n1.moves] == [("a", n2.owner)]
    assert n1.node.registry.yielding == {}


@pytest.mark.parametrize("first", ["drop", "completion"])
def test_31_a_drop_never_comes_after_a_completion(world: World, first: str) -> None:
    """The last counted lock goes while all locks of another life are reported back: the right to those stays."""
    n1 = world.node("n1")
    n1.start("b")
    n1.register("b")
    n1.admit("b").confirm()
    n1.run(n1.node.count_lock(b"b"))
    entry = n1.node.registry.get(b"b")
    assert entry is not None
    entry.unsure = True
    drop, completion = n1.node.uncount_lock(b"b"), n1.node.complete([b"b"])
    early, late = (drop, completion) if first == "drop" else (completion, drop)
    request = early.send(None)
    assert isinstance(late.send(None), Sleep), "the other one waits"
    go_on(n1, early, n1.send(request))  # type: ignore[arg-type]
    go_on(n1, late)
    world.settle()
    assert is_holder(n1, "b")
    assert n1.view_of("b").lock_count is None


def test_31_a_completion_that_changes_nothing_leaves_the_drop_to_the_keeper(world: World) -> None:
    """Cancelled while it waited for the completion, the drop is made up for when that is over."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    drop, completion = n1.node.uncount_lock(b"a"), n1.node.complete([b"a"])
    request = completion.send(None)
    assert isinstance(drop.send(None), Sleep)
    drop.close()
    assert n1.run(n1.node.drop_left_over()) is False
    assert is_holder(n1, "a"), "passed over while it is completing"
    (outcome,) = go_on(n1, completion, n1.send(request))  # type: ignore[arg-type]
    assert outcome.repeated
    n1.tick()
    assert not is_holder(n1, "a")


# -- the end of a life -------------------------------------------------------------------------------------------------


def evicted(world: World, n1: Player, n2: Player) -> None:
    """Let n1 hang until n2 has evicted it; then its keeper is told."""
    n1.alive = False
    world.pass_time(LAPSE)
    n1.tick()
    assert n1.node.lease.is_over
    assert n2.check().reason is None or n2.view().state is GraceState.ACTIVE


def test_16_what_was_asked_for_before_the_end_is_not_taken_after_it(world: World) -> None:
    """The reply to a registration arrives when the incarnation is over: its server is told so, and serves nobody."""
    n1, n2 = world.node("n1"), world.node("n2")
    flow = registering(n1, "c")
    reply = n1.send(flow.send(None))  # type: ignore[arg-type]
    evicted(world, n1, n2)
    (answer,) = go_on(n1, flow, reply)
    assert isinstance(answer, Fenced)
    assert answer.reason == "evicted"
    assert n1.node.registry.get(b"c") is None


def test_16_what_was_closed_before_the_end_is_not_put_back(world: World) -> None:
    """A disconnect that was fenced had closed an entry: that life is over, nothing is served again."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("c")
    flow = n1.node.unregister([(b"c", 0)])
    request = flow.send(None)
    n1.alive = False
    world.pass_time(LAPSE)
    assert n2.released() == [("c", "orphaned")]
    reply = n1.send(request)  # type: ignore[arg-type]
    n1.tick()
    with pytest.raises(Fenced):
        go_on(n1, flow, reply)
    assert n1.node.registry.get(b"c") is None


def test_17_a_process_that_was_evicted_never_displaces_its_replacement(world: World) -> None:
    """It said `predecessor_dead` when it started; when it wakes, its replacement lives, and goes on living."""
    old = world.node("n1", dead=True)
    old.alive = False
    world.node("n2")
    world.pass_time(LAPSE)
    new = world.node("n1")
    old.alive = True
    world.pass_time(LAPSE)
    assert (old.ended, old.check().reason) == (["evicted"], Reason.EVICTED)
    assert new.check().allowed
    assert new.ended == []


def test_24_a_claim_that_ran_out_in_the_queue_is_not_begun(world: World) -> None:
    """Its worker was not free in time: somebody else may be at it by now."""
    n1 = world.node("n1")
    n1.callback = False
    n1.register("a")
    n1.unregister("a")
    (claim,) = n1.held_back
    world.time += 7
    assert not n1.keeper.may_begin(claim)
    assert n1.keeper.claims == {}


# -- what nobody heard -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, errors.ContractBroken])
def test_31_an_interrupted_start_is_enforced_by_whoever_hears_of_it(world: World, error: type[BaseException]) -> None:
    """It was executed and nobody saw the reply: the period is not in force before this node grants no more."""
    n1, n2 = world.node("n1"), world.node("n2")
    epoch = n1.run(n1.node.open_roster("wait", ""))

    def interrupted(call: Call[Any]) -> Any:
        world.run(call)
        raise error

    with pytest.raises(error):
        drive(n1.node.bring_roster(epoch, [b"a"], [], "wait", ""), interrupted, lambda _: None)
    n2.listen()
    n2.tick()
    assert n2.view().waiting_for == (n1.owner,)
    assert n1.check().allowed
    world.settle()
    assert not n1.check().allowed
    assert n2.view().in_force


@pytest.mark.parametrize("fault", [errors.Unavailable, errors.OutcomeUnknown])
def test_35_a_yield_that_failed_is_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Callable[[str], errors.CoordinatorError]
) -> None:
    """Redis went away in the middle of it: the client is served by nobody meanwhile, and yielded when it is back."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.hangs = True
    n1.register("a")
    n1.lock("a")
    with pytest.raises(ClientHeld):
        n2.register("a")
    send, faults = n1.send, [fault("away")] * 3

    def away(call: Call[Any]) -> Any:
        if call.script.name == "client_yield" and faults:
            if fault is errors.OutcomeUnknown:
                send(call)
            raise faults.pop()
        return send(call)

    monkeypatch.setattr(n1, "send", away)
    n1.listen()
    n1.tick()
    assert faults == []
    world.jump(1)
    n1.tick()
    assert n2.register("a").holder
    assert is_holder(n2, "a")


def test_31_a_read_tells_the_clock_and_keeps_nothing(world: World) -> None:
    """Redis' machine steps: a read changes no key at all, and the scope goes on by what writes keep."""
    n1 = world.node("n1")
    before = world.clock
    world.step(1.5)
    assert n1.view().state is GraceState.NORMAL
    assert world.clock == before
    assert n1.node.lease.clock_ms >= before + 1500
    n1.run(n1.node.advance())
    assert world.clock >= before + 1500
