"""Node time: seconds that never jump and go on while the machine is suspended. No wall clock."""

from __future__ import annotations

import time

_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Return node time in seconds; comparable within one machine only."""
    return time.clock_gettime(_CLOCK)
