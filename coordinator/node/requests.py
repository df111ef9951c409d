"""What a flow may ask of its driver. A flow is a generator: a procedure of several round trips, free of I/O."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from coordinator.protocol import Call

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sleep:
    """Go on after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on at this node time, or earlier when the node is woken."""

    until: float


Flow = Generator["Call[Any] | Sleep | Wait", Any, T]
"""A procedure that yields what it needs done, is sent what came of it, and returns a T."""
