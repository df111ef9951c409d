"""Calls about clients: register, unregister, cancel, yield, hold, drop, touch, revoke, view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from coordinator.protocol.call import Call, Head, Reply, Word, call, check, text
from coordinator.values import ClientRegistration, client_str

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.errors import CoordinatorError


class Registering(NamedTuple):
    """A client that connects."""

    client: bytes
    adapter: str
    limit: int
    remote_addr: bytes
    ttl_ms: int
    verifier: bytes
    principal: bytes


class Registered(NamedTuple):
    """Its registration, as the script answered."""

    generation: int
    registered_ms: int
    holder: bool
    """It has its right here."""
    must_reclaim: bool
    """Its right is on a roster."""


class Cancelled(NamedTuple):
    """What became of a cancelled disconnect, or of a yield that is taken back."""

    status: str
    """CANCELLED, LIVE (here), MOVED, NOT_DEFERRED or UNKNOWN."""
    registered: Registered | None
    """Of one that is live here now."""
    adapter: str
    ttl_ms: int
    owner: str
    """Of one that is elsewhere."""


class Yielded(NamedTuple):
    """What became of a client that this node has closed."""

    status: str
    """YIELDED, REVOKED, LIVE (nobody asks for it any more) or GONE."""
    owner: str
    """Of its registration; empty: none."""


class Leaving(NamedTuple):
    """A disconnect, as the script answered; `token` and `reason` are empty unless the caller claimed the release."""

    due_ms: int
    generation: int
    adapter: str
    token: str
    reason: str


def register(key: bytes, head: Head, clients: Sequence[Registering]) -> Call[list[Registered | CoordinatorError]]:
    """Connect up to 200 clients; a registration or a refusal each."""
    args: list[Word] = [int(head.first > 0)]
    for client in clients:
        args += client

    def parse(reply: Reply) -> list[Registered | CoordinatorError]:
        check(reply)
        return [
            Registered(group[1], group[2], group[3] > 0, group[4] > 0)
            if group[0] == b"REGISTERED"
            else _refusal(reply, group)
            for _, group in zip(clients, reply.data, strict=True)
        ]

    return call("client_register", key, head, tuple(args), parse)


def _refusal(reply: Reply, group: Sequence[Any]) -> CoordinatorError:
    error = reply.refused(group[0], group[1:])
    if error is None:
        msg = f"{group!r} is no answer to one client"
        raise ValueError(msg)
    return error


def unregister(
    key: bytes, head: Head, clients: Sequence[tuple[bytes, int]], claim_ms: int, retention_ms: int
) -> Call[list[Leaving | CoordinatorError]]:
    """Disconnect up to 200 clients (id, generation or 0); an answer or a refusal each."""

    def parse(reply: Reply) -> list[Leaving | CoordinatorError]:
        check(reply)
        return [
            Leaving(int(group[1]), int(group[2]), text(group[3]), text(group[4]), text(group[5]))
            if group[0] == b"DUE"
            else _refusal(reply, group)
            for _, group in zip(clients, reply.data, strict=True)
        ]

    return call("client_unregister", key, head, (claim_ms, retention_ms, *_flat(clients)), parse)


def cancel(key: bytes, head: Head, clients: Sequence[bytes], *, own: bool) -> Call[list[Cancelled]]:
    """End deferrals or yields of up to 200 clients; `own`: only of those that are registered here."""

    def parse(reply: Reply) -> list[Cancelled]:
        check(reply)
        return [_cancelled(reply, group) for _, group in zip(clients, reply.data, strict=True)]

    return call("client_cancel", key, head, (int(own), *clients), parse)


def _cancelled(reply: Reply, group: Sequence[Any]) -> Cancelled:
    status = reply.status_of(group[0])
    if status in {"CANCELLED", "LIVE"}:
        registered = Registered(int(group[1]), int(group[2]), int(group[3]) > 0, int(group[4]) > 0)
        return Cancelled(status, registered, text(group[5]), int(group[6]), "")
    return Cancelled(status, None, "", 0, text(group[2]) if len(group) > 2 else "")


def yield_(key: bytes, head: Head, clients: Sequence[bytes]) -> Call[list[Yielded]]:
    """Tell that up to 200 clients are closed here, as was asked."""

    def parse(reply: Reply) -> list[Yielded]:
        check(reply)
        return [
            Yielded(reply.status_of(group[0]), text(group[2])) for _, group in zip(clients, reply.data, strict=True)
        ]

    return call("client_yield", key, head, tuple(clients), parse)


def hold(key: bytes, head: Head, pairs: Sequence[tuple[bytes, int]]) -> Call[list[CoordinatorError | None]]:
    """Clients (id, generation) have their first lock here; None or a refusal each."""
    return _statuses("client_hold", key, head, pairs, _flat(pairs))


def drop(key: bytes, head: Head, pairs: Sequence[tuple[bytes, int]]) -> Call[list[CoordinatorError | None]]:
    """Clients (id, generation) have no lock any more here; None or a refusal each."""
    return _statuses("client_drop", key, head, pairs, _flat(pairs))


def touch(key: bytes, head: Head, clients: Sequence[bytes]) -> Call[list[CoordinatorError | None]]:
    """Clients were seen now; None or a refusal each."""
    return _statuses("client_touch", key, head, clients, tuple(clients))


def _flat(pairs: Sequence[tuple[bytes, int]]) -> tuple[Word, ...]:
    return tuple(word for pair in pairs for word in pair)


def _statuses(
    name: str, key: bytes, head: Head, items: Sequence[object], args: tuple[Word, ...]
) -> Call[list[CoordinatorError | None]]:
    def parse(reply: Reply) -> list[CoordinatorError | None]:
        check(reply)
        return [reply.refused(word) for _, word in zip(items, reply.data, strict=True)]

    return call(name, key, head, args, parse)


def revoke(key: bytes, head: Head, client: bytes) -> Call[tuple[str, int]]:
    """End a client's right; the owner and generation of its registration."""

    def parse(reply: Reply) -> tuple[str, int]:
        check(reply)
        return text(reply.data[0]), int(reply.data[1])

    return call("client_revoke", key, head, (head.first, client), parse)


def view(key: bytes, head: Head, clients: Sequence[bytes]) -> Call[list[ClientRegistration | None]]:
    """Read up to 200 records; lock counts are the caller's to fill in."""

    def parse(reply: Reply) -> list[ClientRegistration | None]:
        check(reply)
        return [_record(client, group) if group else None for client, group in zip(clients, reply.data, strict=True)]

    return call("client_view", key, head, tuple(clients), parse)


def _record(client: bytes, group: Sequence[Any]) -> ClientRegistration:
    return ClientRegistration(
        client_id=client_str(client),
        adapter=text(group[2]),
        ttl=int(group[4]) / 1000,
        registered_at=int(group[6]) / 1000,
        last_seen=int(group[7]) / 1000,
        remote_addr=text(group[5]),
        lock_count=None,
        holder=int(group[8]) > 0,
        owner=text(group[0]),
        generation=int(group[1]),
        state=text(group[3]),
        must_reclaim=int(group[8]) > 1,
    )


def page(key: bytes, head: Head, adapter: str, cursor: str, count: int) -> Call[tuple[str, list[bytes]]]:
    """Read a page of an adapter's clients: next cursor (`0`: the end), and ids."""

    def parse(reply: Reply) -> tuple[str, list[bytes]]:
        check(reply)
        return text(reply.data[0]), list(reply.data[1])

    return call("client_page", key, head, (adapter, cursor, count), parse)
