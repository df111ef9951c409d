"""AsyncCoordinator with the manners of Coordinator, so that one test proves both: its loop runs in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from typing import TYPE_CHECKING, Any, cast

import fakeredis
import redis.asyncio

from coordinator import AsyncCoordinator, Coordinator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOUND = 60.0
_ADDRESS = ("host", "port", "db", "username", "password")


def asynchronous(client: redis.Redis) -> redis.asyncio.Redis:
    """Return an asyncio client of the same server, as the same user."""
    given = client.connection_pool.connection_kwargs
    if "server" in given:
        return fakeredis.FakeAsyncRedis(server=given["server"])
    same = {name: given[name] for name in _ADDRESS if name in given}
    return redis.asyncio.Redis(unix_socket_path=given.get("path"), **same)


class Bridge:
    """An event loop in a thread, and what it gives out: coordinators that are called from other threads."""

    def __init__(self) -> None:
        """Start the loop."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="bridge", daemon=True)
        self._thread.start()

    def coordinator(self, client: redis.Redis, **arguments: Any) -> Coordinator:
        """Make a coordinator on the server of a synchronous client."""

        async def make() -> AsyncCoordinator:
            return AsyncCoordinator(asynchronous(client), **arguments)

        return cast("Coordinator", _Proxy(self, self.run(make())))

    def connect(self, url: str, **arguments: Any) -> Coordinator:
        """Make a coordinator for a URL."""

        async def make() -> AsyncCoordinator:
            return AsyncCoordinator.connect(url, **arguments)

        return cast("Coordinator", _Proxy(self, self.run(make())))

    def run(self, work: Any) -> Any:
        """Run a coroutine on the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(BOUND)

    def close(self) -> None:
        """End the loop, on which nothing may be left."""

        async def left() -> set[str]:
            await self.loop.shutdown_asyncgens()
            await self.loop.shutdown_default_executor()
            return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}

        tasks = self.run(left())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(BOUND)
        self.loop.close()
        assert tasks == set(), "tasks that nobody ended"


class _Proxy:
    """Calls run on the loop; async iterators are collected, async context managers are plain ones."""

    def __init__(self, bridge: Bridge, target: Any) -> None:
        self._bridge, self._target = bridge, target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name in {"grace", "clients", "grants"}:
            return _Proxy(self._bridge, value)
        return self._calling(name, value) if inspect.ismethod(value) else value

    def _calling(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def act(*given: Any, **named: Any) -> Any:
            answer = method(*given, **named)
            if inspect.isawaitable(answer):
                answer = await answer
            return [item async for item in answer] if hasattr(answer, "__aiter__") else answer

        def call(*given: Any, **named: Any) -> Any:
            if name == "on_release":  # grace callbacks are passed as they are
                given = (_in_a_thread(*given),)
            answer = self._bridge.run(act(*given, **named))
            if answer is self._target:
                return self
            return self._block(answer) if hasattr(answer, "__aenter__") else answer

        return call

    @contextlib.contextmanager
    def _block(self, manager: Any) -> Iterator[Any]:
        entered = self._bridge.run(manager.__aenter__())
        try:
            yield entered
        except BaseException as error:
            if not self._bridge.run(manager.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self._bridge.run(manager.__aexit__(None, None, None))

    def __enter__(self) -> Any:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def _in_a_thread(function: Callable[[Any], object]) -> Callable[[Any], object]:
    """Return an `async def` callback: what a callback that blocks is made into by a user of asyncio."""

    async def callback(told: Any) -> None:
        await asyncio.to_thread(function, told)

    return callback
