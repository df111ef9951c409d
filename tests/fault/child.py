"""A process of a test, and the pipe between them. Every wait is bounded."""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import TYPE_CHECKING, Any

from coordinator import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

BOUND = 30.0
"""Seconds after which a wait has failed; nothing is judged by how long it took."""


def short(**more: float) -> Settings:
    """Return settings with a short lease, and a grace that only completed reclaims end in a test's time."""
    figures = {
        "grace_seconds": 60.0,
        "heartbeat_seconds": 0.3,
        "lease_seconds": 3.5,
        "validity_seconds": 3.0,
        "barrier_margin_seconds": 2.1,
        "op_timeout_seconds": 0.4,
    }
    return Settings(**(figures | more))  # type: ignore[arg-type]  # figures only


def hear(pipe: Connection) -> Any:
    """Return what the other side says next."""
    assert pipe.poll(BOUND), "the other side says nothing"
    return pipe.recv()


class Child:
    """A function in a new interpreter, called with its end of the pipe."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        """Start it."""
        context = multiprocessing.get_context("spawn")  # the test has threads
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def hear(self) -> Any:
        """Return what it says next."""
        return hear(self.pipe)

    def stop(self) -> None:
        """Stop all of its threads; return when they are."""
        assert self._process.pid
        os.kill(self._process.pid, signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process.pid
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would, stopped or not."""
        self._process.kill()
        self._process.join(BOUND)
        assert not self._process.is_alive()
        self.pipe.close()
