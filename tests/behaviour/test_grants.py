"""Grants as a server uses them, on both faces: `granting`, `reclaiming`, and `grants.begin` with confirm and undo."""

from __future__ import annotations

import queue
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

from coordinator import (
    Coordinator,
    GraceActive,
    GraceState,
    Grant,
    OutcomeUnknown,
    RegistrationRefused,
    StaleGrant,
    Unavailable,
)
from coordinator.node import turns
from coordinator.wire.asynchronous import AsyncChannel
from coordinator.wire.blocking import Channel
from tests.nodes import BOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEEPING = {"node_renew", "grace_advance", "release_claim", "client_drop"}
"""What the keeper asks by itself."""


class InsertFailedError(Exception):
    """What a lock store may raise."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give a list that grows by each round trip of whatever node, but for what keepers ask by themselves."""
    scripts: list[str] = []

    def noting(original: Any) -> Any:
        def run(channel: Any, call: Any) -> Any:
            if call.script.name not in KEEPING:
                scripts.append(call.script.name)
            return original(channel, call)

        return run

    for kind in (Channel, AsyncChannel):
        monkeypatch.setattr(kind, "run", noting(kind.run))
    return scripts


def holder(node: Coordinator, client: str = "c") -> bool:
    """Tell whether Redis knows that the client has locks."""
    registration = node.clients.get(client)
    assert registration is not None
    return registration.holder


def count(node: Coordinator, client: bytes = b"c") -> int | None:
    """Return how many locks the node counts."""
    entry = node._node.registry.get(client)
    assert entry is not None
    return entry.lock_count


@pytest.fixture
def node(make: Callable[..., Coordinator]) -> Coordinator:
    """Give a node with client c, which has no lock."""
    made = make("n1")
    made.clients.register("c", adapter="nfs")
    return made


# -- new locks --------------------------------------------------------------------------------------------------------


def test_only_the_first_lock_of_a_client_asks_redis(node: Coordinator, sent: list[str]) -> None:
    """The hold is durable before the first block is entered; every further grant is local, and labels alike."""
    sent.clear()
    with node.granting("c") as first:
        assert sent == ["client_hold"]
        assert (first.owner, first.generation) == (node.owner, node._node.registry.get(b"c").generation)  # type: ignore[union-attr]
        with node.granting("c") as second:
            assert (second.owner, second.generation) == (first.owner, first.generation)
    third = node.grants.begin("c")
    third.confirm()
    assert sent == ["client_hold"]
    assert count(node) == 3


@pytest.mark.parametrize("error", [InsertFailedError, KeyboardInterrupt])
def test_a_block_that_raises_takes_its_lock_back(node: Coordinator, error: type[BaseException]) -> None:
    """The error goes through; the lock is counted no more, and with the last one goes the right, by the keeper."""
    with node.granting("c"):
        pass
    with pytest.raises(error), node.granting("c"):
        raise error
    assert count(node) == 1
    assert node.clients.decrement_lock_count("c") == 0
    assert not holder(node)


def test_a_grant_is_ended_once(node: Coordinator) -> None:
    """Undone after a confirm, or twice: nothing is taken back that was not there."""
    first, second = node.grants.begin("c"), node.grants.begin("c")
    first.confirm()
    first.undo()
    second.undo()
    second.undo()
    assert count(node) == 1
    assert node._node.registry.is_settled(b"c")


def test_a_grant_that_was_undone_confirms_nothing_more(node: Coordinator) -> None:
    """A lock that was taken out again does not stand because somebody confirms it late: nobody counts it any more."""
    grant = node.grants.begin("c")
    grant.undo()
    with pytest.raises(StaleGrant):
        grant.confirm()
    assert count(node) == 0


def test_an_overtaken_block_is_told_to_undo(make: Callable[..., Coordinator], node: Coordinator) -> None:
    """Grace begins while the lock is inserted: leaving the block raises StaleGrant; the next one is refused at once."""
    other = make("n2")

    def overtaken() -> None:
        with node.granting("c"):
            other.grace.start(["gone"])
            assert node.grace.wait_in_force(BOUND)

    with pytest.raises(StaleGrant):
        overtaken()
    assert count(node) == 0
    with pytest.raises(GraceActive), node.granting("c"):
        pytest.fail("entered")
    other.grace.end("enough")


def test_who_is_not_registered_here_gets_no_grant(node: Coordinator) -> None:
    """Before the block, whichever way it is asked for."""
    with pytest.raises(RegistrationRefused), node.granting("nobody"):
        pytest.fail("entered")
    with pytest.raises(RegistrationRefused):
        node.grants.begin("nobody")


# -- whoever ends a registration waits for its grants -----------------------------------------------------------------


CALLS: dict[str, Callable[[Coordinator], object]] = {
    "unregister": lambda node: node.clients.unregister("c"),
    "register": lambda node: node.clients.register("c", adapter="nfs"),
    "revoke": lambda node: node.clients.revoke("c"),
}


@pytest.mark.parametrize("name", CALLS)
def test_40_inside_its_own_block_a_registration_cannot_end(
    node: Coordinator, monkeypatch: pytest.MonkeyPatch, sent: list[str], name: str
) -> None:
    """It would wait for the block that waits for it: refused after 2 s, nothing sent, and the error says what to do."""
    assert turns.SETTLE_SECONDS == 2.0
    monkeypatch.setattr(turns, "SETTLE_SECONDS", 0.02)
    with node.granting("c"):
        sent.clear()
        with pytest.raises(
            Unavailable, match=r"a grant of 'c' has been open.*: confirm or undo it \(leave its block\)"
        ):
            CALLS[name](node)
        assert sent == []
    assert count(node) == 1, "the block goes on, and its lock stands"
    CALLS[name](node)


def test_40_a_drop_inside_the_block_is_refused(node: Coordinator) -> None:
    """The right would go with the lock that is being inserted: refused at once, with what to do."""
    with node.granting("c"), pytest.raises(Unavailable, match="a grant of 'c' is open"):
        node.clients.drop("c")
    node.clients.drop("c")
    assert not holder(node)


# -- reclaims ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reclaiming(node: Coordinator) -> Iterator[Coordinator]:
    """Give a node in whose period the clients r and s may reclaim; r is registered there."""
    node.grace.start(["r", "s"])
    assert node.grace.wait_in_force(BOUND)
    node.clients.register("r", adapter="nfs")
    yield node
    if node.grace.view().state is GraceState.ACTIVE:
        node.grace.end("enough")


def test_a_reclaim_is_complete_when_its_block_was_left(reclaiming: Coordinator, sent: list[str]) -> None:
    """Admitted before it, confirmed as often as there are locks, completed after it; the grant is open in between."""
    node = reclaiming
    sent.clear()
    with node.reclaiming("r") as grant:
        for _ in range(3):
            grant.confirm()
        assert sent == ["reclaim_admit"]
        assert not node._node.registry.is_settled(b"r"), "whoever wants the client waits for the block"
    assert sent == ["reclaim_admit", "reclaim_complete"]
    assert node._node.registry.is_settled(b"r")
    assert list(node.grace.reclaimed_clients()) == ["r"]
    assert holder(node, "r")


def test_a_reclaim_whose_block_raises_is_not_completed(reclaiming: Coordinator, sent: list[str]) -> None:
    """It stays on the roster, may be tried again, and holds up neither the period's end nor its client's move."""
    node = reclaiming
    sent.clear()
    with pytest.raises(InsertFailedError), node.reclaiming("r"):
        raise InsertFailedError
    assert sent == ["reclaim_admit"]
    assert node._node.registry.is_settled(b"r")
    assert sorted(node.grace.expected_clients()) == ["r", "s"]
    with node.reclaiming("r"):
        pass
    assert list(node.grace.expected_clients()) == ["s"]


def test_40_inside_its_block_a_reclaiming_client_cannot_be_unregistered(
    reclaiming: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a new lock; the block goes on and completes."""
    monkeypatch.setattr(turns, "SETTLE_SECONDS", 0.02)
    with reclaiming.reclaiming("r"), pytest.raises(Unavailable, match="leave its block"):
        reclaiming.clients.unregister("r")
    assert list(reclaiming.grace.reclaimed_clients()) == ["r"]


def test_06_a_period_that_ends_in_the_block_is_no_success(reclaiming: Coordinator) -> None:
    """A forced end overtakes the reclaim: StaleGrant, nothing is completed, and the right is forfeited."""

    def overtaken() -> None:
        with reclaiming.reclaiming("r"):
            reclaiming.grace.end("no time")

    freed: queue.Queue[tuple[str, str]] = queue.Queue()
    reclaiming.on_release(lambda release: freed.put((release.client_id, release.reason)))
    with pytest.raises(StaleGrant):
        overtaken()
    assert {freed.get(timeout=BOUND) for _ in range(2)} == {("r", "forfeited"), ("s", "forfeited")}
    assert sorted(reclaiming.grace.forfeited_clients()) == ["r", "s"]


def test_blocks_are_contexts_of_their_own(node: Coordinator) -> None:
    """The same client may be granted in as many blocks at once as there are requests: each has its own grant."""
    blocks: list[AbstractContextManager[Grant]] = [node.granting("c") for _ in range(3)]
    grants = [block.__enter__() for block in blocks]
    assert len({id(grant) for grant in grants}) == len(blocks)
    for block in blocks:
        block.__exit__(None, None, None)
    assert count(node) == len(blocks)


def test_31_a_hold_whose_reply_is_lost_is_no_lock(node: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    """No block is entered; Redis may know a right too many, which the keeper takes out; the next request is granted."""

    def lost(*_: object) -> Any:
        raise OutcomeUnknown

    with monkeypatch.context() as patch:
        for kind in (Channel, AsyncChannel):
            patch.setattr(kind, "run", lost)
        with pytest.raises(OutcomeUnknown), node.granting("c"):
            pytest.fail("entered")
    with node.granting("c"):
        pass
    assert count(node) == 1
    assert holder(node)
