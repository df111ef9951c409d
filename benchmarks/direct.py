"""A node without procedures or threads: calls of the scripts, one after the other, on a server of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from coordinator.api.installation import initialize
from coordinator.embedded import Server
from coordinator.protocol import clients, nodes, script
from coordinator.protocol.call import BATCH_MAX, CHANGE_MAX, OPERATOR, Call, Head, Reply, view_of
from coordinator.protocol.keys import Keys
from coordinator.settings import Settings
from coordinator.wire.blocking import Channel
from coordinator.wire.connector import Connector, from_url

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import redis

T = TypeVar("T")
ADDRESS = b"10.20.30.40:712"
TTL_MS = 60_000
FAR = 4_000_000_000_000
"""When leases end here, in ms: nobody renews them."""


class Scope:
    """A server, its scope, and the nodes that joined it here."""

    def __init__(self, stack: contextlib.ExitStack, binary: str | None = None) -> None:
        """Start a server and load all scripts; a scope that is new begins normal."""
        self.server = stack.enter_context(Server(binary))
        self.redis: redis.Redis = from_url(self.server.url)
        stack.callback(self.redis.close)
        for name in script.names():
            self.redis.script_load(script.load(name).source)
        self.settings = Settings()
        self.keys = Keys(self.settings.namespace, "default")
        channel = Channel(Connector(self.redis, self.settings), self.settings)
        stack.callback(channel.close)
        self.run: Callable[[Call[Any]], Reply] = channel.run
        initialize(self.redis)

    def key(self, name: str, suffix: str = "") -> str:
        """Spell a key."""
        return self.keys.key(name, suffix.encode()).decode()

    def name_of(self, key: bytes) -> str:
        """Return the name of a key of any scope: meta, client, holders, ..."""
        return key.split(b"}:", 1)[1].split(b":", 1)[0].decode()

    def copy_to(self, scope: str) -> None:
        """Copy all keys to another scope."""
        mine, other = self.keys.key("").decode(), Keys(self.settings.namespace, scope).key("").decode()
        for key in list(self.redis.scan_iter(f"{mine}*", count=1000)):
            self.redis.copy(key, other + key.decode().removeprefix(mine), replace=True)


class Node:
    """An incarnation, with what it was told last."""

    def __init__(self, scope: Scope, name: str) -> None:
        """Join, with a lease that nobody has to renew."""
        self.scope, self.name = scope, name
        self.serial = self.writes = 0
        self.view = b""
        self.owner = OPERATOR
        joined = self.ask(nodes.join, name, name, "fresh", scope.settings, "bench", predecessor_dead=False)
        self.owner = f"{name}:{joined.incarnation}"
        scope.redis.zadd(scope.key("members"), {self.owner: FAR})

    def head(self) -> Head:
        """Return the head of the next request."""
        self.serial += 1
        return Head(self.owner, 0.0, self.serial, 0, self.writes, self.view)

    def call(self, build: Callable[..., Call[T]], *arguments: Any, **more: Any) -> Call[T]:
        """Build a call, as it would be sent now."""
        return build(self.scope.keys.meta, self.head(), *arguments, **more)

    def answer(self, build: Callable[..., Call[T]], *arguments: Any, **more: Any) -> T:
        """Build a call and send it; its result, in which clients may be refused."""
        call = self.call(build, *arguments, **more)
        return self.heard(call, self.scope.run(call))

    def heard(self, call: Call[T], reply: Reply) -> T:
        """Take a reply; its result."""
        self.writes, self.view = reply.writes, reply.raw_view
        return call.result(reply)

    def ask(self, build: Callable[..., Call[T]], *arguments: Any, **more: Any) -> T:
        """Do the same; a refusal of one client is an error."""
        return good(self.answer(build, *arguments, **more))

    # -- about clients --------------------------------------------------------------------------------------------

    def register(self, ids: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """Connect clients as servers do, with an address and a TTL; pairs of id and generation."""
        answers: Any = self.ask(clients.register, items(ids))
        return [(one, answer.generation) for one, answer in zip(ids, answers, strict=True)]

    def register_holders(self, ids: Sequence[bytes]) -> None:
        """Connect any number of clients, each with its first lock."""
        for batch in batches(ids, CHANGE_MAX):
            self.ask(clients.hold, self.register(batch))

    def hold_all(self, pairs: Iterable[tuple[bytes, int]]) -> None:
        """Give each of these clients, by id and generation, its first lock."""
        for batch in batches(list(pairs)):
            self.ask(clients.hold, batch)

    def die(self) -> None:
        """Let the lease be long over."""
        self.scope.redis.zadd(self.scope.key("members"), {self.owner: 0})

    @property
    def revision(self) -> int:
        """The revision of the scope, as it was told last."""
        return view_of(self.view).revision


def items(ids: Sequence[bytes]) -> list[clients.Registering]:
    """Return what is needed to register clients, with an address and a TTL."""
    return [clients.Registering(one, "nfs", FAR, ADDRESS, TTL_MS, b"", b"") for one in ids]


def good(result: T) -> T:
    """Return a result; a refusal of one client is an error."""
    for one in result if isinstance(result, list) else ():
        if isinstance(one, Exception):
            raise one
    return result


def batches(items: Sequence[T], size: int = BATCH_MAX) -> Iterator[Sequence[T]]:
    """Cut into batches."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
