"""Many clients at once, by the product's own batches: for tests and benchmarks of scenario 34."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.protocol import clients
from coordinator.protocol.call import BATCH_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from coordinator.node import Flow, Node


def register(node: Node, run: Callable[[Flow[Any]], Any], ids: Sequence[bytes]) -> None:
    """Register clients on a node; `run` runs its flows."""
    items = [node.registering(client, "nfs", "10.0.0.7:712", 0.0, None, None) for client in ids]
    assert not [answer for answer in run(node.in_batches(items, node.register)) if isinstance(answer, Exception)]


def register_holders(node: Node, run: Callable[[Flow[Any]], Any], ids: Sequence[bytes]) -> None:
    """Register clients on a node and make each a holder, as its first lock would."""

    def hold(batch: Sequence[bytes]) -> Flow[Any]:
        entries = [entry for client in batch if (entry := node.registry.get(client)) is not None]
        pairs = [(entry.client, entry.generation) for entry in entries]
        answers = yield from node.ask(lambda head: clients.hold(node.meta, head, pairs))
        for entry in entries:
            entry.holder = True
        return answers

    register(node, run, ids)
    assert not any(run(node.in_batches(ids, hold, BATCH_MAX)))
