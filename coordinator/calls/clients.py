"""Calls about clients: register, unregister, cancel, hold, drop, touch, revoke, view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coordinator.calls.base import Call, Reply, call, check, text
from coordinator.values import ClientRegistration, client_str

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.errors import CoordinatorError
    from coordinator.keys import Keys
    from coordinator.lease import Head


@dataclass(frozen=True, slots=True)
class Registering:
    """A client that connects."""

    client: bytes
    adapter: str
    limit: int
    remote_addr: bytes
    ttl_ms: int
    verifier: bytes
    principal: bytes
    request: str


@dataclass(frozen=True, slots=True)
class Registered:
    """Its registration, as the script answered."""

    generation: int
    previous: str
    registered_ms: int
    holder: bool
    copied: bool
    """Its right is a copy that the first lock here must confirm (`client_hold`)."""
    left: tuple[str, ...]
    """Owners under which it has rights still, from before."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A disconnect, as the script answered; `token` is empty unless the caller claimed the release."""

    due_ms: int
    generation: int
    adapter: str
    token: str


def register(keys: Keys, head: Head, clients: Sequence[Registering]) -> Call[list[Registered | CoordinatorError]]:
    """Connect up to 200 clients; a registration or a refusal each."""
    args: list[bytes | int | str] = []
    for c in clients:
        args += [
            c.client,
            c.adapter,
            c.limit,
            c.remote_addr,
            c.ttl_ms,
            c.verifier,
            c.principal,
            c.request,
        ]

    def parse(reply: Reply) -> list[Registered | CoordinatorError]:
        check(reply)
        return [_registered(reply, group) for _, group in zip(clients, reply.data, strict=True)]

    return call("client_register", keys, head, tuple(args), parse)


def _registered(reply: Reply, group: Sequence[Any]) -> Registered | CoordinatorError:
    error = reply.refused(group[0], tuple(group[1:]))
    if error is not None:
        return error
    left = tuple(right.rpartition("=")[0] for right in text(group[5]).split())
    return Registered(int(group[1]), text(group[2]), int(group[3]), int(group[4]) > 0, int(group[4]) == 2, left)


def unregister(
    keys: Keys, head: Head, clients: Sequence[tuple[bytes, int]], claim_ms: int
) -> Call[list[Leaving | CoordinatorError]]:
    """Disconnect up to 200 clients (id, generation or 0); an answer or a refusal each."""
    args: tuple[bytes | int, ...] = tuple(value for pair in clients for value in pair)

    def parse(reply: Reply) -> list[Leaving | CoordinatorError]:
        check(reply)
        return [
            reply.refused(group[0]) or Leaving(int(group[1]), int(group[2]), text(group[3]), text(group[4]))
            for _, group in zip(clients, reply.data, strict=True)
        ]

    return call("client_unregister", keys, head, (claim_ms, *args), parse)


def cancel(keys: Keys, head: Head, client: bytes, request: str) -> Call[Registered | None]:
    """End a deferral; None when there was none."""

    def parse(reply: Reply) -> Registered | None:
        check(reply)
        group = reply.data[0]
        if text(group[0]) != "CANCELLED":
            return None
        registered = _registered(reply, group)
        if not isinstance(registered, Registered):
            raise registered
        return registered

    return call("client_cancel", keys, head, (client, request), parse)


def statuses(
    name: str, keys: Keys, head: Head, args: tuple[bytes | int, ...], *, closed: bool = False
) -> Call[list[CoordinatorError | None]]:
    """Call a script that answers one status per client: client_hold, client_drop, client_touch.

    `closed`, of a drop: the caller has closed the entries of these clients and confirms nothing more under them.
    """
    ids = args if name == "client_touch" else args[::2]
    flags = (int(closed),) if name == "client_drop" else ()

    def parse(reply: Reply) -> list[CoordinatorError | None]:
        check(reply)
        return [reply.refused(word) for _, word in zip(ids, reply.data, strict=True)]

    return call(name, keys, head, flags + args, parse)


def revoke(keys: Keys, head: Head, client: bytes, request: str) -> Call[tuple[str, int]]:
    """End a client's right; the owner and generation of its registration."""

    def parse(reply: Reply) -> tuple[str, int]:
        check(reply)
        return text(reply.data[0]), int(reply.data[1])

    return call("client_revoke", keys, head, (client, request), parse)


def view(keys: Keys, head: Head, clients: Sequence[bytes]) -> Call[list[tuple[ClientRegistration, bool] | None]]:
    """Read up to 200 records, and whether the client is on a roster; lock counts are the caller's to fill in."""

    def parse(reply: Reply) -> list[tuple[ClientRegistration, bool] | None]:
        check(reply)
        return [
            (_record(client, group), int(group[8]) == 2) if group else None
            for client, group in zip(clients, reply.data, strict=True)
        ]

    return call("client_view", keys, head, tuple(clients), parse)


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
    )


def page(keys: Keys, head: Head, adapter: str, cursor: str, count: int) -> Call[tuple[str, list[bytes]]]:
    """Read a page of an adapter's clients: next cursor (`0`: the end), and ids."""

    def parse(reply: Reply) -> tuple[str, list[bytes]]:
        check(reply)
        return text(reply.data[0]), list(reply.data[1])

    return call("client_page", keys, head, (adapter, cursor, count), parse)
