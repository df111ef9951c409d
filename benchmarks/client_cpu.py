"""The CPU of one call on the client's side, compared with a bare EVALSHA of redis-py that gets the same reply."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import TYPE_CHECKING, Any

import redis

from benchmarks.figure import Figure
from benchmarks.member import Member
from coordinator.api.driving import drive
from coordinator.embedded import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS, ROUNDS = 1_000, 15
TIMES_BARE_MAX = 1.3


def measure() -> Iterator[Figure]:
    """Measure a call on the channel, and one that a procedure makes; in turns, so a slow machine is slow for all."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server())
        member = Member(server.url, 1)
        stack.callback(member.close)
        client = redis.Redis.from_url(server.url, protocol=2)
        stack.callback(client.close)
        words = member.words(b"client-0")
        costs = _microseconds(
            bare=lambda: client.evalsha(*words),
            call=lambda: member.run(member.touch(b"client-0")),
            procedure=lambda: drive(member.flow(b"client-0"), member.channel.run, _never),
        )
    bare = costs.pop("bare")
    for name, cost in costs.items():
        detail = {"us": cost, "bare us": bare}
        yield Figure(f"CPU of a {name}, in bare EVALSHAs", cost / bare, "x", TIMES_BARE_MAX, detail)


def _microseconds(**calls: Callable[[], Any]) -> dict[str, float]:
    """Return the median CPU of each call."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.thread_time()
            for _ in range(CALLS):
                call()
            samples[name].append((time.thread_time() - began) / CALLS * 1e6)
    return {name: statistics.median(found) for name, found in samples.items()}


def _never(request: object) -> None:
    raise AssertionError(request)
