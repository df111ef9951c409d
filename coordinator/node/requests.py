"""What a procedure asks of its driver beside a round trip: to sleep, or to wait until there is something to do."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from coordinator.protocol import Call

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sleep:
    """Let so many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until this node time, or until the node is woken because there is something to do."""

    until: float


Flow = Generator["Call[Any] | Sleep | Wait", Any, T]
"""A procedure: it yields a Call, whose Reply it is sent, or a Sleep or a Wait, and returns a T.

A CoordinatorError that a request ends with is thrown into it where it yielded that request.
"""
