"""Server time of each script about a client, warm, beside a script written by hand that does the same writes.

Both run in turns, block by block, and an empty script with them: what a machine does to one of them it does to all. The
calls of a block are sent at once, so that nothing but Redis runs meanwhile. A figure is the median of its blocks, as
INFO commandstats has them.
"""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import yardsticks
from benchmarks.direct import ADDRESS, TTL_MS, Node, Scope, batches, good, items
from benchmarks.figure import Figure
from coordinator.embedded import Server
from coordinator.protocol import Reply, clients, grace, nodes
from coordinator.protocol.call import CHANGE_MAX
from coordinator.protocol.keys import Keys
from coordinator.wire.connector import from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import redis

    from coordinator.protocol import Call

BLOCKS, SINGLES, BATCHES = 80, 50, 3
"""A block takes about 1 ms: a machine that is shared takes the processor away for 4 ms at a time."""
RATIO_MAX = 2.0
SINGLE_US_MAX, PER_CLIENT_US_MAX = 20.0, 5.0
EMPTY_US = 0.7
"""How long an empty script takes on the machine for which the times are promised; they are scaled by it."""
EMPTIES = 200
CLAIM_MS, RETENTION_MS = 10_000, 86_400_000
YARDSTICK = "yardstick"
"""The scope of the yardsticks."""
PROMISED = {"client_register", "client_hold", "reclaim_complete", "client_unregister"}
LATER = 2_000_000_000_000
"""A time in ms, or a generation, for the yardsticks: it has as many digits as a real one."""
Words = tuple[Any, ...]
"""What EVALSHA is given."""


@dataclass(frozen=True, slots=True)
class Step:
    """A script and its yardstick: both are called with client ids."""

    script: str
    ours: Callable[[Sequence[bytes]], Call[Any]]
    yardstick: str
    given: tuple[bytes | int | str, ...]
    """The yardstick's arguments before the client ids."""
    then: Callable[[Sequence[bytes], Any], object] = lambda _, __: None
    """Takes each result."""


def measure() -> Iterator[Figure]:
    """Measure single calls, then batches of 50."""
    for size, calls in ((1, SINGLES), (CHANGE_MAX, BATCHES)):
        ids = [b"client-10.%06d" % i for i in range(BLOCKS * calls * size)]
        for life in (_connected, _reclaiming):
            with contextlib.ExitStack() as stack:
                scope, bare = Scope(stack), from_url(stack.enter_context(Server()).url)
                stack.callback(bare.close)
                for step in life(scope, ids):
                    scope.copy_to(YARDSTICK)
                    yield from _figures(step, Blocks(scope, bare, calls), list(batches(ids, size)))


def _figures(step: Step, blocks: Blocks, given: list[Sequence[bytes]]) -> Iterator[Figure]:
    size = len(given[0])
    ours, theirs, empty = blocks.medians(step, given)
    scaled = ours / size / empty * EMPTY_US
    detail = {"us": ours, "yardstick us": theirs, "empty us": empty}
    ratio_max, us_max = (RATIO_MAX, SINGLE_US_MAX) if size == 1 else (None, PER_CLIENT_US_MAX)
    promised = step.script in PROMISED
    what = f"{step.script}, one client" if size == 1 else f"{step.script}, {size} clients"
    yield Figure(f"{what}: times the yardstick", ours / theirs, "x", ratio_max if promised else None, detail)
    each = f"{what}: each, where an empty script takes {EMPTY_US} us"
    yield Figure(each, scaled, "us", us_max if promised else None)


class Blocks:
    """Runs a step, its yardstick and an empty script in turns."""

    def __init__(self, scope: Scope, bare: redis.Redis, calls: int) -> None:
        """Make blocks of so many calls. `bare`: a server that runs nothing but empty scripts.

        Another one: on the same server they would free what the scripts before them have left to Lua.
        """
        self.redis, self.bare, self.calls = scope.redis, bare, calls
        self.meta = Keys(scope.settings.namespace, YARDSTICK).meta

    def medians(self, step: Step, given: list[Sequence[bytes]]) -> tuple[float, float, float]:
        """Return the median server time in us of a call of each."""
        by_hand, empty = self.redis.script_load(step.yardstick), self.bare.script_load(yardsticks.NOTHING)
        spent: tuple[list[float], ...] = ([], [], [])
        for block in batches(given, self.calls):
            calls = [step.ours(ids) for ids in block]
            took, replies = _block(self.redis, [words(call) for call in calls])
            spent[0].append(took)
            for ids, call, raw in zip(block, calls, replies, strict=True):
                step.then(ids, good(call.result(Reply(call.script, raw))))
            theirs = [(by_hand, 1, self.meta, *step.given, *(b"yardst" + one[6:] for one in ids)) for ids in block]
            spent[1].append(_block(self.redis, theirs)[0])
            spent[2].append(_block(self.bare, [(empty, 1, self.meta)] * EMPTIES)[0])
        return statistics.median(spent[0]), statistics.median(spent[1]), statistics.median(spent[2])


def _block(client: redis.Redis, block: Iterable[Words]) -> tuple[float, list[Any]]:
    client.config_resetstat()
    with client.pipeline(transaction=False) as pipe:
        for one in block:
            pipe.evalsha(*one)
        replies = pipe.execute()
    stats: Any = client.info("commandstats")
    return float(stats["cmdstat_evalsha"]["usec"]) / len(replies), replies


def words(call: Call[Any]) -> Words:
    """Return what EVALSHA is given for a call."""
    return (call.script.sha, 1, call.key, call.head.packed, *call.args)


def _connected(scope: Scope, _: list[bytes]) -> Iterator[Step]:
    """Let clients come, lock, are seen, hold nothing any more, and go."""
    node, generations = Node(scope, "node-1"), dict[bytes, int]()

    def register(batch: Sequence[bytes]) -> Call[Any]:
        return node.call(clients.register, items(batch))

    def registered(batch: Sequence[bytes], answers: Any) -> None:
        generations.update((one, answer.generation) for one, answer in zip(batch, answers, strict=True))

    def unregister(batch: Sequence[bytes]) -> Call[Any]:
        return node.call(clients.unregister, [(one, 0) for one in batch], CLAIM_MS, RETENTION_MS)

    def of_pairs(build: Callable[..., Call[Any]]) -> Callable[[Sequence[bytes]], Call[Any]]:
        return lambda batch: node.call(build, [(one, generations[one]) for one in batch])

    owner, written, entry = node.owner, (node.owner, 1_000_000, LATER), f"{LATER} disconnect - - -"
    given: tuple[Any, ...] = (*written, LATER, "nfs", TTL_MS, ADDRESS)
    yield Step("client_register", register, yardsticks.REGISTER, given, registered)
    yield Step("client_hold", of_pairs(clients.hold), yardsticks.HOLD, written)
    yield Step("client_touch", lambda batch: node.call(clients.touch, batch), yardsticks.TOUCH, (LATER,))
    yield Step("client_drop", of_pairs(clients.drop), yardsticks.DROP, written[:2])
    yield Step("node_renew", lambda _: node.call(nodes.renew, 0), yardsticks.RENEW, (owner, LATER, LATER))
    node.hold_all(generations.items())
    yield Step("client_unregister", unregister, yardsticks.UNREGISTER, (*written, LATER, TTL_MS + RETENTION_MS, entry))


def _reclaiming(scope: Scope, ids: list[bytes]) -> Iterator[Step]:
    """Let a node die; its clients are registered at another one and complete."""
    home, node = Node(scope, "node-1"), Node(scope, "node-2")
    home.register_holders([*ids, b"one that does not come back"])
    home.die()
    node.ask(nodes.evict, home.owner)
    node.ask(grace.advance, node.revision)
    for batch in batches(ids, CHANGE_MAX):
        node.register(batch)
    given = (node.owner, 1_000_000, LATER, home.owner, LATER)
    yield Step("reclaim_complete", lambda batch: node.call(grace.complete, batch), yardsticks.COMPLETE, given)
