"""Calls of many tasks through the asyncio driver, compared with the same tasks on a bare redis.asyncio pool."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import TYPE_CHECKING

import redis.asyncio

from benchmarks.figure import Figure
from benchmarks.member import Member
from coordinator.api.driving import drive_async
from coordinator.embedded import Server
from coordinator.wire.asynchronous import AsyncChannel
from coordinator.wire.connector import Connector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

CALLS, ROUNDS = 4_000, 5
BARE_TIME_MAX = {1: 1.5, 16: 1.11, 200: 0.67}
"""Of so many callers: how much longer than on a bare pool their calls may take, all in all."""


def measure() -> Iterator[Figure]:
    """Measure few callers and many; in turns, so a slow machine is slow for both."""
    with Server() as server:
        member = Member(server.url, max(BARE_TIME_MAX))
        try:
            yield from asyncio.run(_figures(member))
        finally:
            member.close()


async def _figures(member: Member) -> list[Figure]:
    client = redis.asyncio.Redis.from_url(member.url, protocol=2, max_connections=2 * max(BARE_TIME_MAX))
    channel = AsyncChannel(Connector(client, member.settings), member.settings)
    ids = [b"client-%d" % i for i in range(max(BARE_TIME_MAX))]
    words = {one: member.words(one) for one in ids}

    async def bare(one: bytes) -> None:
        await client.evalsha(*words[one])

    async def driven(one: bytes) -> None:
        await drive_async(member.flow(one), channel.run, _never)

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.aclose)
        stack.push_async_callback(channel.close)
        figures = []
        for callers, most in BARE_TIME_MAX.items():
            took: dict[Callable[[bytes], Awaitable[None]], list[float]] = {bare: [], driven: []}
            for _ in range(ROUNDS):
                for call, samples in took.items():
                    samples.append(await _seconds(call, ids[:callers]))
            theirs, ours = (statistics.median(samples) for samples in took.values())
            detail = {"calls/s": CALLS / ours, "bare calls/s": CALLS / theirs}
            figures.append(
                Figure(f"time of {callers} callers, in that of a bare pool", ours / theirs, "x", most, detail)
            )
        return figures


async def _seconds(call: Callable[[bytes], Awaitable[None]], ids: list[bytes]) -> float:
    """Return how long the callers take for all calls, each one after the other."""

    async def caller(one: bytes) -> None:
        for _ in range(CALLS // len(ids)):
            await call(one)

    began = time.perf_counter()
    await asyncio.gather(*map(caller, ids))
    return time.perf_counter() - began


async def _never(request: object) -> None:
    raise AssertionError(request)
