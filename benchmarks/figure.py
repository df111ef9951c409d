"""One measured figure, and the bound that is promised for it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure; missed when it is above `most`, if anything is promised."""

    name: str
    value: float
    unit: str
    most: float | None = None
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def missed(self) -> bool:
        """Whether the promise is broken."""
        return self.most is not None and self.value > self.most


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, 99th percentile, extremes and number of values."""
    ordered = sorted(values)
    return {
        "p50": statistics.median(ordered),
        "p99": percentile(ordered, 0.99),
        "min": ordered[0],
        "max": ordered[-1],
        "count": len(ordered),
    }


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the value below which so large a part of the ordered values is."""
    return ordered[max(0, int(len(ordered) * part) - 1)]
