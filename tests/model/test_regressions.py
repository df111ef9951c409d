"""Orders of events that the model has found, or that were found by reading for it, small enough to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.world import World


def test_a_repeated_completion_does_not_count_what_it_cannot_know(world: World) -> None:
    """A completion that finds everything done leaves the lock count alone: a grant may have been opened meanwhile.

    Else the count is one too low: the last unlock but one drops the right, and the last lock cannot be reclaimed.
    """
    n1, n2 = world.node("n1"), world.node("n2")
    n1.register("A")
    n1.lock("A")
    grant = n1.begin_lock("A")
    n1.run(n1.node.complete([b"A"], 1))  # one lock, as the server counted before the insert
    grant.confirm()
    n1.unlock("A")
    n1.crash()
    world.pass_time(10.0)
    assert n2.register("A").must_reclaim
