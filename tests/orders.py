"""How a test brings the events of a driven scope into an order of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator import OutcomeUnknown, StaleGrant, Unavailable
from coordinator.api.driving import drive
from tests.world import REQUESTS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.node import Flow, Grant
    from coordinator.protocol import Call
    from tests.world import Player, World

LAPSE = 9.5
"""Seconds in which a death is noticed: lease, margin, and what it takes to look."""
LOST, DOWN, GOOD = "lost", "down", ""
"""The reply is lost after the effect; nothing is reached; it is answered."""


def lose(world: World, player: Player) -> None:
    """Let a node die and be noticed."""
    player.crash()
    world.pass_time(LAPSE)


def make_deaf(player: Player) -> None:
    """Have a node hear no events: it learns by heartbeats only."""
    player.listen = lambda: None  # type: ignore[method-assign]


def state_of(world: World, client: str) -> str:
    """Return the state of a registration, as Redis has it."""
    state: Any = world.redis.hget(world.key("client", client), "s")
    return "live" if state is None else str(state.decode())


def confirms(grant: Grant) -> bool:
    """Tell whether a grant still counts."""
    try:
        grant.confirm()
    except StaleGrant:
        return False
    return True


# -- flows ------------------------------------------------------------------------------------------------------------


def run_flow(flow: Flow[Any], send: Callable[[Any], Any], sleep: Callable[[Any], object] = lambda _: None) -> Any:
    """Run a flow: its round trips by `send`, its sleeps by `sleep`, which is given the request."""
    return drive(flow, send, sleep)


def registering(player: Player, client: str, *, ttl: float = 0.0, verifier: str | None = None) -> Flow[list[Any]]:
    """Return the flow that registers a client."""
    return player.node.register([player.node.registering(client, "nfs", "", ttl, verifier, None)])


def first_answer(player: Player, flow: Flow[Any]) -> None:
    """Let a flow have the answer to its first request; then its node dies, or its caller gives up."""
    request: Any = flow.send(None)
    flow.send(player.send(request))
    flow.close()


def asked_for(world: World) -> tuple[Player, Player]:
    """Return n1, which serves A with a lock, and n2, which has asked for it once."""
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("a")
    n1.lock("a")
    first_answer(n2, registering(n2, "a"))
    return n1, n2


def back_for_its_right(world: World) -> tuple[Player, Player]:
    """Return n1, where A has come to reclaim what it had at n0, which died, and n3."""
    n0, n1, n3 = (world.node(f"n{i}") for i in (0, 1, 3))
    n0.register("a")
    n0.lock("a")
    lose(world, n0)
    n1.register("a")
    return n1, n3


def rest(player: Player, flow: Flow[Any], request: Any) -> Any:
    """Go on with a flow whose request was held back."""

    def go_on() -> Flow[Any]:
        asked = request
        for _ in range(REQUESTS_MAX):
            try:
                asked = flow.send((yield asked))
            except StopIteration as end:
                return end.value
        return pytest.fail("it waits for ever")

    return player.run(go_on())


def in_time(player: Player, flow: Flow[Any], meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Run a flow whose sleeps take time, in which the other nodes beat and `meanwhile` happens."""

    def sleep(rest: Any) -> None:
        player.world.jump(rest.seconds)
        meanwhile()
        player._pause(rest)

    return run_flow(flow, player.send, sleep)


def counting(player: Player) -> list[str]:
    """Return a list that grows by the script of each round trip of a node."""
    send, sent = player.send, []

    def counted(call: Call[Any]) -> Any:
        sent.append(call.script.name)
        return send(call)

    player.send = counted  # type: ignore[method-assign]
    return sent


# -- replies that do not come -----------------------------------------------------------------------------------------


def failing(send: Callable[[Call[Any]], Any], call: Call[Any], fault: str) -> Any:
    """Do a round trip that fails as said: its reply is lost after the effect, or nothing is reached."""
    if fault == DOWN:
        message = "nothing was reached"
        raise Unavailable(message)
    reply = send(call)
    if fault == LOST:
        message = "the reply was lost"
        raise OutcomeUnknown(message)
    return reply


def faulty(player: Player, flow: Flow[Any], *plan: str) -> Any:
    """Run a flow whose round trips fail as planned, one after the other; those beyond the plan are answered."""
    faults = iter(plan)
    return run_flow(flow, lambda call: failing(player.send, call, next(faults, GOOD)))


def lost_reply(player: Player, flow: Flow[Any], between: Callable[[], object] = lambda: None, *, times: int = 1) -> Any:
    """Run a flow whose first replies are lost although executed; `between` acts after each."""
    faults = iter([LOST] * times)

    def send(call: Call[Any]) -> Any:
        try:
            return failing(player.send, call, next(faults, GOOD))
        except OutcomeUnknown:
            between()
            raise

    return run_flow(flow, send)


def given_up(world: World, flow: Flow[Any]) -> Call[Any]:
    """Run a flow that gets no answer and gives up; return its last request, which is on its way still."""
    delayed: list[Call[Any]] = []

    def on_its_way(call: Call[Any]) -> Any:
        delayed.append(call)
        world.time += world.settings.op_timeout_seconds
        message = "no reply came"
        raise OutcomeUnknown(message)

    def sleep(rest: Any) -> None:
        world.time += rest.seconds

    with pytest.raises(OutcomeUnknown):
        run_flow(flow, on_its_way, sleep)
    return delayed[-1]
