"""The asyncio face of a node in a driven scope: the test holds each round trip and sleep, and ends it as it likes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import redis.asyncio

from coordinator import AsyncCoordinator, OutcomeUnknown
from coordinator.api.async_operations import AsyncClients, AsyncGrace, AsyncGrants
from coordinator.node import Sleep
from coordinator.wire.asynchronous import Pending

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from coordinator.wire.asynchronous import AsyncChannel
    from tests.world import Player, World

BOUND = 20.0
"""Seconds after which a wait has failed; nothing is judged by how long it took."""


@dataclass
class Step:
    """One request of a flow, under way until the test ends it."""

    world: World
    request: Any
    future: asyncio.Future[Any]
    reply: Any = None

    @property
    def script(self) -> str:
        """The script of a round trip, empty for a sleep."""
        return "" if isinstance(self.request, Sleep) else self.request.script.name

    def execute(self) -> Step:
        """Have Redis run it; the reply is on its way."""
        self.reply = self.world.run(self.request)
        return self

    def answer(self) -> None:
        """Let the reply arrive, or the sleep end."""
        if self.future.done():
            return  # a sleep that was cut short
        if isinstance(self.request, Sleep):
            self.world.jump(self.request.seconds)
        elif self.reply is None:
            self.execute()
        self.future.set_result(self.reply)

    def lose(self) -> None:
        """Let the connection break before a reply."""
        self.future.set_exception(OutcomeUnknown("the reply was lost"))


@dataclass
class Held:
    """The asyncio face of a node, whose steps the test holds back."""

    player: Player
    steps: asyncio.Queue[Step] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        """Build the face around the node of the driven scope."""
        self.face = AsyncCoordinator(redis.asyncio.Redis(), node=self.player.name)
        self.face._node = self.player.node
        self.face._channel = cast("AsyncChannel", self)
        self.face._rest = self.run  # type: ignore[method-assign]
        self.face.grace, self.face.clients = AsyncGrace(self.face), AsyncClients(self.face)
        self.face.grants = AsyncGrants(self.face)

    def run(self, request: Any) -> asyncio.Future[Any]:
        """Be the channel of the face, and its sleeps: a round trip is waited for, cancelled or not; a sleep is not."""
        if isinstance(request, Sleep):
            step = Step(self.player.world, request, asyncio.get_running_loop().create_future())
        else:
            step = Step(self.player.world, request, Pending(request, asyncio.get_running_loop()))
        self.steps.put_nowait(step)
        return step.future

    async def next(self, script: str) -> Step:
        """Wait for the next step, which must be that script ("": a sleep)."""
        step = await asyncio.wait_for(self.steps.get(), BOUND)
        assert step.script == script
        return step

    async def all_answered(self, work: Awaitable[Any]) -> Any:
        """Answer every step of some work at once."""
        task = asyncio.ensure_future(work)
        async with asyncio.timeout(BOUND):
            while not task.done():
                await settled()
                if not self.steps.empty():
                    self.steps.get_nowait().answer()
        return task.result()


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)
