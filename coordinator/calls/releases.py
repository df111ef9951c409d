"""Calls about the release queue: claim, renew, acknowledge, drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.calls.base import Call, Reply, call, check, text
from coordinator.values import Release, client_str

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.keys import Keys
    from coordinator.lease import Head


@dataclass(frozen=True, slots=True)
class Claim:
    """A release that this node works on until the claim runs out."""

    name: bytes
    token: str
    release: Release

    @property
    def client(self) -> bytes:
        """The client whose locks are to be freed."""
        return self.name.split(b"|", 2)[2]


def _release(client: bytes, owner: str, generation: str, reason: str, adapter: str) -> Release:
    return Release(
        client_id=client_str(client),
        owner=None if owner in {"", "*"} else owner,
        generation=None if generation == "*" else int(generation),
        reason=reason,
        adapter=adapter,
    )


def own(owner: str, client: bytes, generation: int, adapter: str, token: str) -> Claim:
    """Return the claim that an unregister with TTL 0 made for its caller."""
    name = b"%s|%d|%s" % (owner.encode(), generation, client)
    return Claim(name, token, _release(client, owner, str(generation), "disconnect", adapter))


def claim(keys: Keys, head: Head, limit: int, claim_ms: int, prefer_ms: int) -> Call[tuple[int, list[Claim]]]:
    """Take due releases; when the next is due (scope clock, ms; 0: none), and the claims."""

    def parse(reply: Reply) -> tuple[int, list[Claim]]:
        check(reply)
        claims = [
            Claim(
                name,
                text(token),
                _release(client, text(owner), text(generation), text(reason), text(adapter)),
            )
            for name, client, owner, generation, reason, adapter, token in reply.data[1:]
        ]
        return int(reply.data[0]), claims

    return call("release_claim", keys, head, (limit, claim_ms, prefer_ms), parse)


def renew(keys: Keys, head: Head, claims: Sequence[Claim], claim_ms: int) -> Call[list[bool]]:
    """Extend up to 200 claims; False: somebody else has it now."""
    args: tuple[bytes | str, ...] = tuple(value for claim in claims for value in (claim.name, claim.token))

    def parse(reply: Reply) -> list[bool]:
        check(reply)
        return [word == b"RENEWED" for _, word in zip(claims, reply.data, strict=True)]

    return call("release_renew", keys, head, (claim_ms, *args), parse)


def ack(keys: Keys, head: Head, claimed: Claim, adapters: Sequence[str]) -> Call[bool]:
    """Acknowledge; False: the claim had run out and somebody else has it now."""

    def parse(reply: Reply) -> bool:
        check(reply)
        return reply.status == "ACKED"

    return call("release_ack", keys, head, (claimed.name, claimed.token, *adapters), parse)


def drain(keys: Keys, head: Head, limit: int) -> Call[tuple[int, bool, int]]:
    """Queue what an orphan left; how many, whether more wait, when the next release is due."""

    def parse(reply: Reply) -> tuple[int, bool, int]:
        check(reply)
        return int(reply.data[0]), int(reply.data[1]) > 0, int(reply.data[2])

    return call("orphan_drain", keys, head, (limit,), parse)
