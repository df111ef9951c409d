"""`node.view`, what a node goes by, from its memory; and `on_grace_start`, which is given it."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

import pytest

from coordinator import AsyncCoordinator, Coordinator, GraceState, Operation, Reason
from tests.nodes import BOUND

if TYPE_CHECKING:
    from collections.abc import Callable

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize("connect", [Coordinator.connect, AsyncCoordinator.connect], ids=["sync", "async"])
def test_before_it_has_joined(connect: Callable[..., Coordinator]) -> None:
    """No owner, no validity, and the reason."""
    view = connect(NOWHERE, node="n1").view
    assert (view.owner, view.valid_for_seconds, view.reason) == ("", 0.0, Reason.JOINING)


def test_it_follows_the_period_and_the_life(make: Callable[..., Coordinator]) -> None:
    """Normal, in grace, normal again, closed: as the node acts."""
    node = make("n1")
    view = node.view
    assert (view.owner, view.state, view.epoch, view.reason) == (node.owner, GraceState.NORMAL, 0, None)
    assert (view.remaining_seconds, view.valid_for_seconds > 0) == (0.0, True)
    node.grace.start(["gone"])
    assert node.grace.wait_in_force(BOUND)
    view = node.view
    assert (view.state, view.epoch, view.in_force, view.closing) == (GraceState.ACTIVE, 1, True, False)
    assert 0 < view.remaining_seconds <= node.grace.view().remaining_seconds + 1
    node.grace.end("test")
    assert node.grace.wait_normal(BOUND)
    assert (node.view.state, node.view.revision > view.revision) == (GraceState.NORMAL, True)
    node.close()
    assert (node.view.reason, node.view.valid_for_seconds) == (Reason.CLOSED, 0.0)


def test_a_lease_that_lapsed_is_the_reason(make: Callable[..., Coordinator], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the node's own clock, whatever Redis would say."""
    node = make("n1")
    now = node._node.now
    monkeypatch.setattr(node._node, "now", lambda: now() + 3600)
    assert (node.view.reason, node.view.valid_for_seconds) == (Reason.LEASE_LAPSED, 0.0)


def test_the_start_of_a_period_is_told_once_by_each_node(make: Callable[..., Coordinator]) -> None:
    """When it has stopped granting; who begins to listen later, or joins later, is told too; then the end of it."""
    told: queue.Queue[tuple[str, int, bool]] = queue.Queue()
    first, second = make("n1"), make("n2")

    def listening(name: str, node: Coordinator) -> None:
        node.on_grace_start(lambda view: told.put((name, view.epoch, node._node.check(Operation.NEW).allowed)))
        node.on_grace_end(lambda period: told.put((name, -period.epoch, node._node.check(Operation.NEW).allowed)))

    listening("n1", first)
    first.grace.start(["gone"])
    assert told.get(timeout=BOUND) == ("n1", 1, False)
    assert second.grace.wait_in_force(BOUND)
    listening("n2", second)
    listening("n1", first)
    assert told.get(timeout=BOUND) == ("n2", 1, False)
    third = make("n3")
    listening("n3", third)
    assert told.get(timeout=BOUND) == ("n3", 1, False)
    first.grace.end("test")
    assert {told.get(timeout=BOUND) for _ in range(3)} == {(name, -1, True) for name in ("n1", "n2", "n3")}
    second.grace.start(["another"])
    assert {told.get(timeout=BOUND) for _ in range(3)} == {(name, 2, False) for name in ("n1", "n2", "n3")}
    assert told.empty()
