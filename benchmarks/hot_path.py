"""What a lock request costs on the node, compared with calling a method that does nothing."""

from __future__ import annotations

import threading
import timeit
import tracemalloc
from itertools import repeat
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure
from coordinator import Coordinator, Operation, initialize
from coordinator.embedded import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS, ROUNDS = 100_000, 9
EMPTY_CALLS_MAX = {"check": 10, "granting": 100}
"""`granting`: of a client that holds already."""
HELD_SECONDS = 5.0


class _Empty:
    def method(self, operation: Operation) -> None:
        """Do nothing."""


def measure() -> Iterator[Figure]:
    """Measure check, granting and confirm; prove that an allowed check takes no lock and allocates nothing."""
    with Server() as server:
        initialize(server.url)
        yield from _measure(server.url)


def _measure(url: str) -> Iterator[Figure]:
    with Coordinator.connect(url, node="node") as node:
        node.clients.register("client", adapter="nfs")
        with node.granting("client") as grant:  # stays a holder: what follows is local

            def granting() -> None:
                with node.granting("client"):
                    pass

            costs = _nanoseconds(
                empty=(_Empty().method, (Operation.NEW,)),
                check=(node.grace.check, (Operation.NEW,)),
                confirm=(grant.confirm, ()),
                granting=(granting, ()),
            )
            empty = costs.pop("empty")
            for name, cost in costs.items():
                most = EMPTY_CALLS_MAX.get(name)
                yield Figure(f"{name}, in empty method calls", cost / empty, "x", most, {"ns": cost, "empty ns": empty})
            yield Figure("check: memory allocated", _allocated(node), "bytes", 0)
            yield Figure("check: locks it waits for", _waits(node), "", 0)


def _nanoseconds(**calls: tuple[Callable[..., Any], tuple[Any, ...]]) -> dict[str, float]:
    """Return the best cost of each call, measured in turns so that a slow machine is slow for all."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):
        for name, (function, arguments) in calls.items():
            number = CALLS // 20 if name == "granting" else CALLS
            statement = "function(argument)" if arguments else "function()"
            scope = {"function": function, "argument": arguments[0] if arguments else None}
            seconds = timeit.timeit(statement, globals=scope, number=number)
            best[name] = min(best[name], seconds / number * 1e9)
    return best


def _allocated(node: Coordinator) -> int:
    """Return the least that a thousand allowed checks have added; other threads of the node allocate at times."""
    check, operation, least = node.grace.check, Operation.NEW, 10**9
    tracemalloc.start()
    for _ in range(ROUNDS):
        calls = repeat(None, 1000)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in calls:
            check(operation)
        least = min(least, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return least


def _waits(node: Coordinator) -> int:
    """Return how many of the node's locks stop a check while another thread holds them."""
    inner, stopped = node._node, 0
    for mutex in (inner.lease._mutex, inner.registry._mutex, inner._mutex):
        checker = threading.Thread(target=node.grace.check, args=(Operation.NEW,), daemon=True)
        with mutex:
            checker.start()
            checker.join(HELD_SECONDS)
            stopped += checker.is_alive()
        checker.join()
    return stopped
