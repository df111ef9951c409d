"""A fake pool of asyncio, for the tests of channels."""

from __future__ import annotations

import asyncio
from typing import Any

import redis

from tests.unit.wire_cases import bytes_of

HOLD = object()
"""An answer that does not come before the connection is cut."""


class Connection:
    """Answers from a list, reply by reply; an exception in it is raised, an event waited for first."""

    def __init__(self, *answers: object, on_send: BaseException | None = None) -> None:
        """Prepare the answers."""
        self.answers = list(answers)
        self.on_send = on_send
        self.sent: list[bytes] = []
        self.socket_timeout: float | None = 1.0
        self.busy = asyncio.Event()
        """Set once something was sent."""
        self.held = asyncio.Event()
        """Set once a read waits for an answer that does not come."""
        self.disconnected = 0
        self.ended = False
        """Redis has closed it."""

    async def send_packed_command(self, command: list[bytes]) -> None:
        """Note the pipeline."""
        self.sent.append(b"".join(command))
        self.busy.set()
        if self.on_send is not None:
            raise self.on_send

    async def send_command(self, *words: Any) -> None:
        """Note a pipeline of one."""
        await self.send_packed_command([bytes_of(*words)])

    async def read_response(self) -> object:
        """Give the next answer, after others had their turn."""
        await asyncio.sleep(0)
        answer = self.answers.pop(0)
        if answer is HOLD:
            self.held.set()
            await asyncio.get_running_loop().create_future()
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def can_read(self) -> bool:
        """Look whether anything came."""
        if self.ended:
            message = "Connection closed by server."
            raise redis.ConnectionError(message)
        return False

    async def disconnect(self, *, nowait: bool = False) -> None:
        """Count it."""
        assert nowait, "nobody waits for the other side of a connection that failed"
        self.disconnected += 1


class Pool:
    """Gives out one connection, or fails to connect; stands for its connector too."""

    def __init__(self, connection: Connection, failure: BaseException | None = None) -> None:
        """Keep both."""
        self.connection = connection
        self.failure = failure
        self.out = self.taken = 0
        self.disconnected = False

    def pool(self, *, timeout: float) -> Pool:
        """Be the connector's pool."""
        self.timeout = timeout
        return self

    async def get_connection(self) -> Connection:
        """Give it out: one at a time."""
        self.taken += 1
        if self.failure is not None:
            raise self.failure
        self.out += 1
        assert self.out == 1
        assert self.connection.socket_timeout is not None, "nothing else bounds a handshake"
        self.connection.ended = False
        return self.connection

    async def release(self, connection: Connection) -> None:
        """Take it back."""
        assert connection is self.connection
        assert connection.socket_timeout is not None, "nothing else bounds a handshake"
        self.out -= 1

    async def disconnect(self) -> None:
        """Note it."""
        self.disconnected = True
