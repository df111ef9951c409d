"""Scenarios 40 and 41: one turn per client, and nothing that ends a registration while a grant of it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import (
    ClientHeld,
    OutcomeUnknown,
    RegistrationRefused,
    Release,
    StaleGrant,
    Unavailable,
)
from coordinator.node import Sleep
from coordinator.node.turns import SETTLE_SECONDS
from tests.orders import (
    DOWN,
    LAPSE,
    LOST,
    asked_for,
    confirms,
    counting,
    faulty,
    first_answer,
    in_time,
    registering,
    rest,
    state_of,
)
from tests.world import GRACE, World, all_released

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.node import Flow, Grant
    from tests.world import Player


class LockTable(list["tuple[str, int]"]):
    """The locks of all nodes in one store: client and generation; what nodes release is freed at that moment."""

    def take(self, grant: Grant, client: str) -> tuple[str, int]:
        """Take a lock under a grant."""
        self.append((client, grant.generation))
        return self[-1]

    def freed_by(self, *players: Player) -> LockTable:
        """Have release callbacks of these nodes free what they name."""
        for player in players:
            player.releases = Freeing(self)
        return self


class Freeing(list[Release]):
    """The releases of a node; each frees when it comes."""

    def __init__(self, table: LockTable) -> None:
        """Free locks of a table."""
        self.table = table

    def append(self, release: Release) -> None:
        """Free everything of a client up to a generation."""
        self.table[:] = [
            (client, generation)
            for client, generation in self.table
            if client != release.client_id or generation > release.generation
        ]
        super().append(release)


# -- 40: a reboot at one's own home -----------------------------------------------------------------------------------


def test_40_a_client_reboots_while_a_grant_of_its_old_registration_is_open(world: World) -> None:
    """The register waits until that grant has failed at its confirm; only old locks are freed, new ones stay."""
    n1 = world.node("n1")
    table = LockTable().freed_by(n1)
    n1.register("a", verifier="one")
    table.take(n1.lock("a"), "a")
    grant, asked, undone = n1.begin_lock("a"), counting(n1), list[tuple[str, int]]()
    late = table.take(grant, "a")

    def meanwhile() -> None:
        if not undone:
            assert "client_register" not in asked
            assert not confirms(grant)
            table.remove(late)
            undone.append(late)

    (new,) = in_time(n1, registering(n1, "a", verifier="two"), meanwhile)
    assert undone
    assert not new.holder
    fresh = table.take(n1.lock("a"), "a")
    assert fresh == ("a", new.generation)
    world.settle()
    assert [(release.reason, release.generation) for release in n1.releases] == [("rebooted", late[1])]
    assert table == [fresh]
    assert world.rights() == {"a": (n1.owner, new.generation)}


@pytest.mark.parametrize("end", ["register", "unregister", "revoke"])
def test_40_nothing_ends_a_registration_whose_grant_stays_open(world: World, end: str) -> None:
    """After 2 s the call is refused, and nothing was sent: the grant counts still, and so do later ones."""
    n1 = world.node("n1")
    n1.register("a")
    n1.lock("a")
    grant, asked, before = n1.begin_lock("a"), counting(n1), world.time
    flows: dict[str, Callable[[], Flow[Any]]] = {
        "register": lambda: registering(n1, "a", verifier="other"),
        "unregister": lambda: n1.node.unregister([(b"a", 0)]),
        "revoke": lambda: n1.node.revoke(b"a"),
    }
    with pytest.raises(Unavailable, match="confirm or undo"):
        in_time(n1, flows[end]())
    assert not set(asked) & {"client_register", "client_unregister", "client_revoke"}
    assert SETTLE_SECONDS - 0.1 < world.time - before < SETTLE_SECONDS + 0.2
    assert confirms(grant)
    n1.lock("a").confirm()
    assert world.rights().keys() == {"a"}


@pytest.mark.parametrize("end", ["unregister", "revoke"])
def test_40_what_ends_a_registration_is_sent_when_its_grant_was_undone(world: World, end: str) -> None:
    """So its release sees whatever was inserted, or knows that nothing will be."""
    n1 = world.node("n1")
    table = LockTable().freed_by(n1)
    n1.register("a")
    table.take(n1.lock("a"), "a")
    grant, asked = n1.begin_lock("a"), counting(n1)
    flow = n1.node.unregister([(b"a", 0)]) if end == "unregister" else n1.node.revoke(b"a")
    request: Any = flow.send(None)
    assert isinstance(request, Sleep)
    table.take(grant, "a")
    with pytest.raises(StaleGrant):
        grant.confirm()
    assert n1.releases == []
    rest(n1, flow, request)
    world.settle()
    assert asked.count(f"client_{end}") == 1
    assert len(n1.releases) == 1
    assert table == [], "with what was inserted and not undone yet"


# -- 41: a home that pauses -------------------------------------------------------------------------------------------

MOMENTS = ("before the insert", "after it", "after the failed confirm", "after the undo")


def go_on(home: Player, grant: Grant, table: LockTable, killed: str) -> None:
    """Let the server of a home finish a grant to client a that was overtaken, unless it is killed at a moment of it."""
    late: list[tuple[str, int]] = []
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: late.append(table.take(grant, "a")),
        lambda: confirms(grant),
        lambda: table.remove(late[0]),
    ]
    for moment, step in zip(MOMENTS, steps, strict=True):
        assert moment == MOMENTS[0] or step() is not True, "it must not be confirmed"
        if moment == killed:
            home.crash()
            return


@pytest.mark.parametrize("killed", [*MOMENTS, "not at all"])
def test_41_a_home_pauses_between_check_and_insert(world: World, killed: str) -> None:
    """Its client is not yielded before that grant is settled; it dies at any moment: each lock is freed by somebody."""
    n1, n2 = world.node("n1"), world.node("n2")
    table = LockTable().freed_by(n1, n2)
    n1.register("a")
    table.take(n1.lock("a"), "a")
    grant = n1.begin_lock("a")
    with pytest.raises(ClientHeld):
        n2.register("a")
    assert state_of(world, "a") == "live", "asked for, and not yielded"
    go_on(n1, grant, table, killed)
    if killed in MOMENTS[:2]:
        with pytest.raises(ClientHeld):
            n2.register("a")
        world.pass_time(LAPSE)
        assert n2.register("a").must_reclaim
        table.take(n2.admit("a"), "a")
        n2.complete("a")
        world.settle()
    elif killed == "not at all":
        assert n2.register("a").holder
    else:
        first_answer(n2, registering(n2, "a"))
        world.pass_time(LAPSE)
        assert n2.reclaim("a").lifted
    world.settle()
    assert world.rights().keys() == {"a"}
    n2.unregister("a")
    world.pass_time(2 * GRACE)
    assert table == []
    assert world.dump("client", "adapter", "due") == {}


@pytest.mark.parametrize("killed", [*MOMENTS, "not at all"])
def test_41_a_home_pauses_and_its_client_is_revoked_and_never_comes_back(world: World, killed: str) -> None:
    """The release runs when nothing can be inserted any more: afterwards no lock is left that nobody frees."""
    n1, n2 = world.node("n1"), world.node("n2")
    table = LockTable().freed_by(n1, n2)
    n1.register("a")
    table.take(n1.lock("a"), "a")
    grant = n1.begin_lock("a")
    n2.run(n2.node.revoke(b"a"))
    world.settle()
    assert list(all_released(world)) == []
    go_on(n1, grant, table, killed)
    world.pass_time(LAPSE + 2)
    assert list(all_released(world)) == [("a", "revoked")]
    assert table == []


# -- turns ------------------------------------------------------------------------------------------------------------


def flows_of(n1: Player) -> dict[str, Callable[[], Flow[Any]]]:
    """Return all calls on client a that take its turn, as flows."""
    return {
        "register": lambda: registering(n1, "a", ttl=60),
        "unregister": lambda: n1.node.unregister([(b"a", 0)]),
        "hold": lambda: n1.node.begin_grant(b"a"),
        "count": lambda: n1.node.count_lock(b"a"),
        "drop": lambda: n1.node.drop(b"a"),
        "complete": lambda: n1.node.complete([b"a"]),
        "revoke": lambda: n1.node.revoke(b"a"),
        "cancel": lambda: n1.node.cancel(b"a"),
    }


@pytest.mark.parametrize("second", ["register", "unregister", "hold", "count", "drop", "complete", "revoke", "cancel"])
@pytest.mark.parametrize("first", ["register", "unregister", "hold", "drop", "complete", "revoke", "cancel"])
def test_40_calls_on_one_client_wait_for_each_other(world: World, first: str, second: str) -> None:
    """Until the reply to the one before; however that ends, the next one has its turn."""
    n1 = world.node("n1")
    n1.register("a", ttl=60)
    flow = flows_of(n1)[first]()
    request: Any = flow.send(None)
    assert request.script.name != ""
    is_closed = n1.node.registry.get(b"a") is None
    waiting = flows_of(n1)[second]()
    assert isinstance(waiting.send(None), Sleep)
    flow.close()  # as one whose caller was interrupted
    if is_closed and second in {"hold", "count", "drop"}:
        with pytest.raises(RegistrationRefused):
            waiting.send(None)  # perhaps it has left: it is served again when it registers again
        return
    after: Any = waiting.send(None)
    assert not isinstance(after, Sleep)
    waiting.close()
    assert n1.node.registry.begin_turn(b"a")


def test_40_another_clients_turn_is_free(world: World) -> None:
    """Only calls on the same client wait."""
    n1 = world.node("n1")
    for client in ("a", "b"):
        n1.register(client)
    flow = n1.node.begin_grant(b"a")
    flow.send(None)
    n1.lock("b").confirm()
    flow.close()


def test_40_two_batches_in_opposite_order_do_not_wait_for_each_other(world: World) -> None:
    """Turns are taken in one order: one batch has them all, then the other."""
    n1 = world.node("n1")
    items = [n1.node.registering(client, "nfs", "", 0.0, None, None) for client in "abc"]
    first, second = n1.node.register(items), n1.node.register(items[::-1])
    held = n1.node.registry.begin_turn(b"b")
    assert held
    requests: list[Any] = [flow.send(None) for flow in (first, second)]
    assert all(isinstance(request, Sleep) for request in requests)
    n1.node.registry.end_turn(b"b")
    answers = rest(n1, first, requests[0])
    answers += rest(n1, second, requests[1])
    assert not [answer for answer in answers if isinstance(answer, Exception)]


def test_41_a_client_whose_turn_is_taken_is_yielded_after_it(world: World) -> None:
    """The keeper leaves it for later, and the end of the turn wakes it."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    assert n1.node.registry.begin_turn(b"a")
    first_answer(n2, registering(n2, "a"))
    n1.listen()
    n1.tick()
    assert state_of(world, "a") == "live"
    n1.node.registry.close(b"a")
    woken: list[str] = []
    n1.node.wake = lambda: woken.append("up")
    n1.node.registry.end_turn(b"a")
    assert woken
    n1.tick()
    assert state_of(world, "a") == "yielded"
    n2.crash()


def test_36_a_call_at_the_home_waits_while_its_client_is_yielded(world: World) -> None:
    """Refused as unknown only when it was taken; a register at the home takes it back at once."""
    n1, n2 = asked_for(world)
    n1.listen()
    n1.tick()
    lock = n1.node.begin_grant(b"a")
    assert isinstance(lock.send(None), Sleep)
    assert n1.register("a").lock_count is None, "it may have been away: what its locks are is not known"
    rest(n1, lock, Sleep(0)).confirm()
    first_answer(n2, registering(n2, "a"))
    n1.listen()
    n1.tick()
    lock = n1.node.begin_grant(b"a")
    assert isinstance(lock.send(None), Sleep)
    n2.register("a")
    n1.listen()
    with pytest.raises(RegistrationRefused, match="unknown"):
        rest(n1, lock, Sleep(0))


@pytest.mark.parametrize("call", ["register", "unregister", "revoke"])
def test_31_an_entry_that_was_closed_for_nothing_is_open_again(world: World, call: str) -> None:
    """Certainly not executed: the client locks on. Perhaps executed: it is served again when it registers again."""
    n1 = world.node("n1")
    n1.register("a", ttl=60)
    n1.lock("a")
    with pytest.raises(Unavailable):
        faulty(n1, flows_of(n1)[call](), DOWN, DOWN, DOWN)
    n1.lock("a").confirm()
    with pytest.raises(OutcomeUnknown):
        faulty(n1, flows_of(n1)[call](), LOST, DOWN, DOWN)
    with pytest.raises(RegistrationRefused, match="unknown"):
        n1.begin_lock("a")
