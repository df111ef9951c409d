"""A member of a scope with clients, without a node: what the benchmarks of the client's side send calls as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from coordinator.protocol import Head, clients, nodes
from coordinator.protocol.keys import Keys
from coordinator.settings import Settings
from coordinator.wire.blocking import Channel
from coordinator.wire.connector import Connector, from_url

if TYPE_CHECKING:
    from coordinator.errors import CoordinatorError
    from coordinator.node.requests import Flow
    from coordinator.protocol import Call

T = TypeVar("T")


class Member:
    """Its calls are built anew each time, as a node builds them."""

    def __init__(self, url: str, size: int) -> None:
        """Join a new scope and register so many clients."""
        self.url = url
        self.settings = Settings()
        self._meta = Keys(self.settings.namespace, "bench").meta
        self._client = from_url(url)
        self.channel = Channel(Connector(self._client, self.settings), self.settings)
        operator = Head("-", 0.0)
        self.run(nodes.initialize(self._meta, operator, "bench"))
        join = nodes.join(self._meta, operator, "n", "boot", "", self.settings, "bench", predecessor_dead=False)
        reply = self.channel.run(join)
        self._owner, self._view, self._serial = f"n:{join.result(reply).incarnation}", reply.raw_view, 0
        for i in range(size):
            item = clients.Registering(b"client-%d" % i, "nfs", size, b"10.0.0.7:712", 0, b"", b"")
            self.run(clients.register(self._meta, self._head(), [item]))
        self.run(self.touch(b"client-0"))

    def _head(self) -> Head:
        self._serial += 1
        return Head(self._owner, 0.0, self._serial, 0, 1, self._view)

    def touch(self, client: bytes) -> Call[list[CoordinatorError | None]]:
        """Build a call."""
        return clients.touch(self._meta, self._head(), [client])

    def words(self, client: bytes) -> tuple[Any, ...]:
        """Return what redis-py's `evalsha` takes to do the same."""
        call = self.touch(client)
        return (call.script.sha, 1, call.key, call.head.packed, *call.args)

    def flow(self, client: bytes) -> Flow[list[CoordinatorError | None]]:
        """Do the same as a procedure."""
        call = self.touch(client)
        reply = yield call
        return call.result(reply)

    def run(self, call: Call[T]) -> T:
        """Run a call, all of it: send it, read the reply, parse it."""
        return call.result(self.channel.run(call))

    def close(self) -> None:
        """Give the connections back."""
        self.channel.close()
        self._client.close()
