"""A link to a server that takes its time: a TCP proxy whose bytes travel for half of a round trip each way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import Any, Self

BOUND = 20.0
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """A proxy on a port of its own, on an event loop in a thread. A context manager."""

    def __init__(self, *, path: str = "", port: int = 0, round_trip: float = 0.0) -> None:
        """Lead to a Unix socket, or to a port of this machine."""
        self.port = 0
        self._path, self._far_port, self._delay = path, port, round_trip / 2
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self.port = self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        """End, with all connections."""
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND)
        self._loop.close()

    def lead_to(self, path: str) -> None:
        """Lead new connections to another Unix socket."""
        self._path = path

    def cut(self) -> None:
        """Close every connection that there is, as a server does with idle ones."""

        async def cut() -> None:
            for writer in self._writers:
                writer.close()

        self._run(cut())

    def forget(self) -> None:
        """Carry nothing more on the connections that there are, and tell nobody: as a firewall does with idle ones."""

        async def forget() -> None:
            self._forgotten |= self._writers

        self._run(forget())

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(BOUND)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._path:
            far_reader, far_writer = await asyncio.open_unix_connection(self._path)
        else:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far_port)
        self._writers |= {writer, far_writer}
        try:
            with contextlib.suppress(asyncio.CancelledError):  # the link ends, and its loop
                await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            for one in (writer, far_writer):
                self._writers.discard(one)
                one.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Write what is read, each after its time, in order; empty at the end."""
        under_way: deque[bytes] = deque()

        def arrive() -> None:
            data = under_way.popleft()
            if not data:
                writer.close()
            elif writer not in self._forgotten and not writer.is_closing():
                writer.write(data)

        data = b"begin"
        while data:
            with contextlib.suppress(ConnectionError):
                data = await reader.read(65_536)
            under_way.append(data)
            self._loop.call_later(self._delay, arrive)
        while under_way:  # noqa: ASYNC110  (the last byte takes its time as well)
            await asyncio.sleep(self._delay)

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.wait([asyncio.create_task(asyncio.sleep(0)), *tasks])
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0)
