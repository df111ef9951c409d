"""Server time of each script about a client, warm, beside a script written by hand that does the same writes.

Both run in turns on one server, block by block, and an empty script with them: what a machine does to one of them it
does to all. A figure is the median of its blocks, as INFO commandstats has them.
"""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import yardsticks
from benchmarks.direct import ADDRESS, TTL_MS, Node, Scope, batches
from benchmarks.figure import Figure
from coordinator.protocol import clients, grace, nodes
from coordinator.protocol.call import CHANGE_MAX
from coordinator.protocol.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

BLOCKS, SINGLES, BATCHES = 12, 200, 8
RATIO_MAX = 2.0
SINGLE_US_MAX, PER_CLIENT_US_MAX = 20.0, 5.0
EMPTY_US = 0.7
"""How long an empty script takes on the machine for which the times are promised; they are scaled by it."""
CLAIM_MS = 10_000
YARDSTICK = "yardstick"
"""The scope of the yardsticks."""
PROMISED = {"client_register", "client_hold", "reclaim_complete", "client_unregister"}
RETENTION_MS = 86_400_000
LATER = 2_000_000_000_000
"""A time in ms, or a generation, for the yardsticks: it has as many digits as a real one."""


@dataclass(frozen=True, slots=True)
class Step:
    """A script and its yardstick: both are called with client ids."""

    script: str
    ours: Callable[[Sequence[bytes]], object]
    yardstick: str
    given: tuple[bytes | int | str, ...]
    """The yardstick's arguments before the client ids."""


def measure() -> Iterator[Figure]:
    """Measure single calls, then batches of 50."""
    for size, calls in ((1, SINGLES), (CHANGE_MAX, BATCHES)):
        ids = [b"client-10.%06d" % i for i in range(BLOCKS * calls * size)]
        for life in (_connected, _reclaiming):
            with contextlib.ExitStack() as stack:
                scope = Scope(stack)
                for step in life(scope, ids):
                    scope.copy_to(YARDSTICK)
                    yield _figure(step, Blocks(scope, calls), list(batches(ids, size)))


def _figure(step: Step, blocks: Blocks, given: list[Sequence[bytes]]) -> Figure:
    size = len(given[0])
    ours, theirs, empty = blocks.medians(step, given)
    ratio, promised = ours / theirs, step.script in PROMISED
    detail = {"ours us": ours, "yardstick us": theirs, "empty us": empty, "ratio": ratio}
    if size == 1:
        most = RATIO_MAX if promised else None
        detail["ours us, scaled"] = ours / empty * EMPTY_US
        detail["bound"] = SINGLE_US_MAX
        return Figure(f"{step.script}, one client: ours / yardstick", ratio, "x", most, detail)
    each = ours / size / empty * EMPTY_US
    most = PER_CLIENT_US_MAX if promised else None
    return Figure(f"{step.script}, {size} clients: each, scaled", each, "us", most, detail)


class Blocks:
    """Runs a step, its yardstick and an empty script in turns."""

    def __init__(self, scope: Scope, calls: int) -> None:
        """Time blocks of so many calls."""
        self.redis, self.calls = scope.redis, calls
        self.meta = Keys(scope.settings.namespace, YARDSTICK).meta

    def medians(self, step: Step, given: list[Sequence[bytes]]) -> tuple[float, float, float]:
        """Return the median server time in us of a call of each of the three."""
        script = self._loaded(step.yardstick)
        empty = self._loaded(yardsticks.NOTHING)
        spent: tuple[list[float], ...] = ([], [], [])
        for block in batches(given, self.calls):
            theirs = [[b"yardst" + one[6:] for one in ids] for ids in block]
            spent[0].append(self._block(step.ours, block))
            spent[1].append(self._block(lambda ids: script(*step.given, *ids), theirs))
            spent[2].append(self._block(lambda _: empty(), block))
        ours, yardstick, nothing = map(statistics.median, spent)
        return ours, yardstick, nothing

    def _loaded(self, source: str) -> Callable[..., object]:
        sha = self.redis.script_load(source)
        return lambda *arguments: self.redis.evalsha(sha, 1, self.meta, *arguments)

    def _block(self, call: Callable[[Sequence[bytes]], object], block: Sequence[Sequence[bytes]]) -> float:
        self.redis.config_resetstat()
        for ids in block:
            call(ids)
        stats: Any = self.redis.info("commandstats")
        return float(stats["cmdstat_evalsha"]["usec"]) / len(block)


def _connected(scope: Scope, _: list[bytes]) -> Iterator[Step]:
    """Clients come, lock, are seen, hold nothing any more, and go."""
    node, generations = Node(scope, "node-1"), dict[bytes, int]()

    def register(batch: Sequence[bytes]) -> None:
        generations.update(node.register(batch))

    def pairs(batch: Sequence[bytes]) -> list[tuple[bytes, int]]:
        return [(one, generations[one]) for one in batch]

    def unregister(batch: Sequence[bytes]) -> None:
        node.ask(clients.unregister, [(one, 0) for one in batch], CLAIM_MS, RETENTION_MS)

    owner, written, entry = node.owner, (node.owner, 1_000_000, LATER), f"{LATER} disconnect - - -"
    yield Step("client_register", register, yardsticks.REGISTER, (*written, LATER, "nfs", TTL_MS, ADDRESS))
    yield Step("client_hold", lambda batch: node.ask(clients.hold, pairs(batch)), yardsticks.HOLD, written)
    yield Step("client_touch", lambda batch: node.ask(clients.touch, batch), yardsticks.TOUCH, (LATER,))
    yield Step("client_drop", lambda batch: node.ask(clients.drop, pairs(batch)), yardsticks.DROP, written[:2])
    yield Step("node_renew", lambda _: node.ask(nodes.renew, 0), yardsticks.RENEW, (owner, LATER, LATER))
    node.hold_all(generations.items())
    expiry = (LATER, TTL_MS + RETENTION_MS, entry)
    yield Step("client_unregister", unregister, yardsticks.UNREGISTER, (*written, *expiry))


def _reclaiming(scope: Scope, ids: list[bytes]) -> Iterator[Step]:
    """Register the clients of a node that died at another one, and complete them."""
    home, node = Node(scope, "node-1"), Node(scope, "node-2")
    home.register_holders([*ids, b"one that does not come back"])
    home.die()
    node.ask(nodes.evict, home.owner)
    node.ask(grace.advance, node.revision)
    for batch in batches(ids, CHANGE_MAX):
        node.register(batch)
    written = (node.owner, 1_000_000, LATER, home.owner, LATER)
    yield Step("reclaim_complete", lambda batch: node.ask(grace.complete, batch), yardsticks.COMPLETE, written)
