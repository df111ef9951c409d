"""Calls about the release queue: claim, renew, acknowledge, drain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.protocol.call import Call, Head, Reply, Word, call, check, text
from coordinator.values import Release, client_str

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Claim:
    """A release that this node works on until the claim runs out."""

    client: bytes
    token: str
    release: Release


def own(client: bytes, generation: int, adapter: str, token: str, reason: str = "disconnect") -> Claim:
    """Return the claim that an unregister made for its caller."""
    return Claim(client, token, Release(client_str(client), generation, reason, adapter))


def claim(key: bytes, head: Head, limit: int, claim_ms: int, prefer_ms: int) -> Call[tuple[int, list[Claim]]]:
    """Take due releases; when the next is due (scope clock, ms; 0: none), and the claims."""
    return call("release_claim", key, head, (limit, claim_ms, prefer_ms), _claimed)


def _claimed(reply: Reply) -> tuple[int, list[Claim]]:
    check(reply)
    claims = [
        Claim(client, text(token), Release(client_str(client), int(upto), text(reason), text(adapter)))
        for client, upto, reason, adapter, token in reply.data[1:]
    ]
    return int(reply.data[0]), claims


def _tokens(claims: Sequence[Claim]) -> tuple[Word, ...]:
    return tuple(value for claim in claims for value in (claim.client, claim.token))


def renew(key: bytes, head: Head, claims: Sequence[Claim], claim_ms: int) -> Call[list[bool]]:
    """Extend up to 200 claims; False: somebody else has it now."""

    def parse(reply: Reply) -> list[bool]:
        check(reply)
        return [word == b"RENEWED" for _, word in zip(claims, reply.data, strict=True)]

    return call("release_renew", key, head, (claim_ms, *_tokens(claims)), parse)


def ack(key: bytes, head: Head, claims: Sequence[Claim], adapters: Sequence[str]) -> Call[tuple[int, list[bool]]]:
    """Acknowledge up to 200; when the next is due, and for each False if somebody else has it now."""

    def parse(reply: Reply) -> tuple[int, list[bool]]:
        check(reply)
        return int(reply.data[0]), [word == b"ACKED" for _, word in zip(claims, reply.data[1:], strict=True)]

    return call("release_ack", key, head, (" ".join(adapters), *_tokens(claims)), parse)


def drain(key: bytes, head: Head, limit: int) -> Call[tuple[int, bool, int]]:
    """Queue what an orphan left; how many, whether more wait, when the next release is due."""
    return call("orphan_drain", key, head, (limit,), _drained)


def _drained(reply: Reply) -> tuple[int, bool, int]:
    check(reply)
    return int(reply.data[0]), int(reply.data[1]) > 0, int(reply.data[2])
