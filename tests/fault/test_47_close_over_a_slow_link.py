"""Scenario 47: a node that closes hands over at once, whatever its link to Redis is like."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import pytest
import redis

from coordinator import Coordinator, GraceState, Settings, Unavailable, initialize
from coordinator.embedded import Server
from coordinator.protocol.keys import Keys
from coordinator.wire import asynchronous, blocking
from tests import acl
from tests.bridge import Bridge
from tests.fault.child import BOUND
from tests.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DATABASE = 3
KEYS = Keys(Settings().namespace, "default")


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Coordinator]]:
    """Give either face, made of a URL; what is left of the nodes is abandoned."""
    made: list[Coordinator] = []
    with ExitStack() as ending:
        face = Coordinator.connect
        if request.param == "async":
            bridge = Bridge()
            ending.callback(bridge.close)
            face = bridge.connect

        def start(url: str, node: str) -> Coordinator:
            made.append(face(url, node=node))
            return made[-1].start()

        yield start
        for node in made:
            node.abandon()


def cannot(why: str) -> NoReturn:
    """Leave this test out; in CI it fails."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


def login(scheme: str, port: int, options: str = "") -> str:
    """Return the URL of a node that logs in and selects a database on each connection."""
    return f"{scheme}://{acl.USER}:{quote(acl.PASSWORD)}@127.0.0.1:{port}/{DATABASE}{options}"


def closing(url: str, near: str, connect: Callable[..., Coordinator], before: Callable[[], object]) -> Coordinator:
    """Let a node with a holder close, over `url`, after `before` has happened; return another one, which is near.

    When close() returns the holder is waited for already: no lease had to run out.
    """
    initialize(near)
    other = connect(near, "other")
    node = connect(url, "closing")
    node.clients.register("holder", adapter="nfs")
    with node.granting("holder"):
        pass
    owner = node.owner
    before()
    node.close()
    view = other.grace.view()
    assert (view.state, view.expected_clients) == (GraceState.ACTIVE, 1)
    with redis.Redis.from_url(near, protocol=2) as client:
        assert client.zscore(KEYS.key("members"), owner) is None
    assert other.grace.wait_in_force(BOUND)
    other.clients.register("holder", adapter="nfs")
    with other.reclaiming("holder"):
        pass
    assert other.grace.wait_normal(BOUND)
    return other


@pytest.fixture
def link(server: Server) -> Iterator[Link]:
    """Give a link of 150 ms to the server."""
    with Link(path=server.socket, round_trip=0.15) as made:
        yield made


@pytest.mark.parametrize("before", ["script flush", "kept for long", "closed", "forgotten"])
def test_47_150_ms_with_auth_and_select(  # noqa: PLR0913, PLR0917  (fixtures)
    server: Server,
    admin: redis.Redis,
    link: Link,
    connect: Callable[..., Coordinator],
    before: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each connection costs four round trips, and is new after a silence in which Redis or a firewall dropped it.

    `kept for long`: a connection has served for so long that it passes through its pool before each call.
    """

    def happens() -> None:
        match before:
            case "script flush":
                admin.script_flush()
            case "kept for long":
                for wire in (blocking, asynchronous):
                    monkeypatch.setattr(wire, "KEPT_SECONDS", -1.0)
            case "closed":
                link.cut()
            case "forgotten":
                link.forget()

    near = acl.login(server.url, acl.USER, acl.PASSWORD) + f"?db={DATABASE}"
    other = closing(login("redis", link.port), near, connect, happens)
    assert "could not say that it leaves" not in caplog.text
    other.clients.unregister("holder")
    other.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Give the folder of a key and a certificate for this machine, which signs itself."""
    program = shutil.which("openssl")
    if program is None:
        cannot("openssl is missing: apt-get install openssl")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")],
        check=True, capture_output=True,
    )  # fmt: skip
    return tmp_path


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with Link() as nobody:
        return nobody.port


@pytest.fixture
def tls_port(server_binary: str, certificate: Path, users: Path) -> Iterator[int]:
    """Give the port of a server that speaks TLS."""
    port = free_port()
    figures = ("--aclfile", str(users), "--tls-port", str(port), "--tls-auth-clients", "no",
               "--tls-cert-file", str(certificate / "certificate.pem"), "--tls-key-file", str(certificate / "key.pem"),
               "--bind", "127.0.0.1")  # fmt: skip
    try:
        started = Server(server_binary, arguments=figures).start()
    except Unavailable as error:
        cannot(f"this server has no TLS: {error}")
    yield port
    started.stop()


def test_47_tls_with_100_ms(
    tls_port: int, certificate: Path, connect: Callable[..., Coordinator], caplog: pytest.LogCaptureFixture
) -> None:
    """The handshake of TLS is within what a connection may take; the connection was dropped in a silence."""
    options = f"?ssl_ca_certs={certificate / 'certificate.pem'}"
    with Link(port=tls_port, round_trip=0.1) as link:
        other = closing(login("rediss", link.port, options), login("rediss", tls_port, options), connect, link.cut)
        other.close()
    assert "could not say that it leaves" not in caplog.text
