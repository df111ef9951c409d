"""Round trips of a driven node that fail as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator import OutcomeUnknown, Unavailable
from coordinator.api.driving import drive

if TYPE_CHECKING:
    from coordinator.node import Flow
    from coordinator.protocol import Call
    from tests.world import Player

LOST, DOWN, GOOD = "lost", "down", ""
"""The reply is lost after the effect; nothing is reached; it is answered."""


def faulty(player: Player, flow: Flow[Any], *plan: str) -> Any:
    """Run a flow whose round trips fail as planned, one after the other; those beyond the plan are answered."""
    faults = list(plan)

    def run(call: Call[Any]) -> Any:
        fault = faults.pop(0) if faults else GOOD
        if fault == DOWN:
            message = "nothing was reached"
            raise Unavailable(message)
        reply = player.world.run(call)
        if fault == LOST:
            message = "the reply was lost"
            raise OutcomeUnknown(message)
        return reply

    return drive(flow, run, lambda _: None)
