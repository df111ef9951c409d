"""Bad arguments of either face: refused by InvalidArgument, by name, before anything is sent."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from prometheus_client import CollectorRegistry

from coordinator import AsyncCoordinator, Closed, Coordinator, InvalidArgument, LockMetrics, Settings
from coordinator.embedded import Server

NAN = float("nan")


def plain(**given: Any) -> Coordinator:
    """Make the synchronous face, which is not started: whatever it would send raises Closed."""
    return Coordinator(redis.Redis(), **{"node": "n1", **given})


def awaited(**given: Any) -> AsyncCoordinator:
    """Make the asyncio face."""
    return AsyncCoordinator(redis.asyncio.Redis(), **{"node": "n1", **given})


def outcome(answer: Any) -> Any:
    """Return what a call of either face answers, all of it if it is iterated over."""

    async def wait() -> Any:
        return [item async for item in answer] if hasattr(answer, "__aiter__") else await answer

    if hasattr(answer, "__aiter__") or hasattr(answer, "__await__"):
        return asyncio.run(wait())
    return list(answer) if hasattr(answer, "__next__") else answer


each_face = pytest.mark.parametrize("face", [plain, awaited], ids=["sync", "async"])


@each_face
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"scope": None}, "scope None"),
        ({"scope": b"s"}, "scope b's'"),
        ({"scope": 5}, "scope 5"),
        ({"node": None}, "node name None"),
        ({"settings": {}}, r"settings=\{\}"),
        ({"settings": {"grace_seconds": 5}}, r"settings=\{'grace_seconds': 5\}"),
        pytest.param({"metrics": CollectorRegistry()}, "metrics=.*LockMetrics", id="metrics"),  # not its address
        ({"predecessor_dead": "no"}, "predecessor_dead='no'"),
        ({"predecessor_dead": 1}, "predecessor_dead=1"),
    ],
    ids=str,
)
def test_what_makes_no_coordinator_is_refused(face: Callable[..., Any], given: dict[str, Any], named: str) -> None:
    """A wrong type would else show later, as something else, or be taken for the opposite ("false" is true)."""
    with pytest.raises(InvalidArgument, match=named):
        face(**given)


@each_face
def test_nothing_given_is_the_default(face: Callable[..., Any]) -> None:
    """None stands for the default settings and for no metrics; the right types are taken."""
    assert face(settings=None, metrics=None)._settings == Settings()
    assert face(settings=Settings(grace_seconds=5), metrics=LockMetrics())._settings.grace_seconds == 5


_NO_IDS: tuple[Any, ...] = (0, False, [], "", b"", 7, "p" * 1025, "\ud800")
CALLS: list[tuple[str, Callable[[Any], Any], str]] = [
    *(
        (f"{name}({given!r})", lambda node, name=name, given=given: getattr(node.clients, name)(given), "clients=")
        for name in ("touch_many", "unregister_many", "register_many")
        for given in ("ab", b"ab", None, 5)
    ),
    ("touch_many([5])", lambda node: node.clients.touch_many(["a", 5]), "client id 5"),
    ("complete_reclaim_many", lambda node: node.grace.complete_reclaim_many("ab"), "clients='ab'"),
    ("register_many([5])", lambda node: node.clients.register_many([5]), "registration 5"),
    ("register_many(dict)", lambda node: node.clients.register_many({"client": "a"}), "registration 'client'"),
    ("register_many odd", lambda node: node.clients.register_many([{"client": "a", 1: 2}]), "differs in: 1, adapter"),
    ("start(str)", lambda node: node.grace.start("client-1"), "expected='client-1'"),
    ("start(bytes)", lambda node: node.grace.start(b"client-1"), "expected=b'client-1'"),
    ("start(None)", lambda node: node.grace.start(None), "expected=None"),
    ("if_empty=[]", lambda node: node.grace.start(if_empty=[]), r"if_empty=\[\]"),
    ("if_empty=None", lambda node: node.grace.start(if_empty=None), "if_empty=None"),
    *(
        (f"{name}({given!r})", lambda node, name=name, given=given: getattr(node.grace, name)(given), "timeout=")
        for name in ("wait_in_force", "wait_normal")
        for given in ("5", None, NAN, -1, True)
    ),
    *(
        (f"stale({given!r})", lambda node, given=given: node.clients.stale(given), "older_than=")
        for given in ("5", None, NAN, -1)
    ),
    *(
        (f"locks={given!r}", lambda node, given=given: node.grace.complete_reclaim("a", locks=given), "locks=")
        for given in ("5", NAN, -1, True)
    ),
    *(
        (f"{name}({given!r})", lambda node, name=name, given=given: getattr(node.grace, name)(given), "epoch=")
        for name in ("expected_clients", "reclaimed_clients", "forfeited_clients")
        for given in ("5", 0, -1, True, 1.5, 2**53)
    ),
    *(
        (f"if_epoch={given!r}", lambda node, given=given: node.grace.end("why", if_epoch=given), "if_epoch=")
        for given in ("5", 0, True)
    ),
    *(
        (f"generation={given!r}", lambda node, given=given: node.clients.unregister("a", given), "generation=")
        for given in ("5", 0, True)
    ),
    *(
        (f"{name}({given!r:.8})", lambda node, name=name, given=given: getattr(node.clients, name)(given), "client id")
        for name in ("unregister", "cancel_disconnect", "touch", "get", "drop", "revoke", "increment_lock_count")
        for given in ("", 5, None)
    ),
    *(
        (f"{name}({given!r})", lambda node, name=name, given=given: getattr(node.grace, name)(given), "client id")
        for name in ("admit_reclaim", "complete_reclaim")
        for given in ("", 5, None)
    ),
    *((f"begin({given!r})", lambda node, given=given: node.grants.begin(given), "client id") for given in ("", 5)),
    ("count('bogus')", lambda node: node.clients.count("bogus"), "adapter 'bogus'"),
    ("count([])", lambda node: node.clients.count([]), r"adapter \[\]"),
    *(
        (
            f"register({name}={given!r:.5})",
            lambda node, name=name, given=given: node.clients.register("a", adapter="nfs", **{name: given}),
            f"{name} ",
        )
        for name in ("verifier", "principal")
        for given in _NO_IDS
    ),
    *(
        (f"{name}({given!r})", lambda node, name=name, given=given: getattr(node, name)(given), name)
        for name in ("on_release", "on_grace_start", "on_grace_end", "on_move", "on_freed", "on_ended")
        for given in (None, "free_locks")
    ),
]


class Freeing:
    """An object that is called, and only begins what it does."""

    async def __call__(self, _: object) -> None:
        """Free."""


async def _freeing(_: object) -> None:
    pass


@pytest.mark.parametrize("callback", [_freeing, Freeing(), functools.partial(_freeing)], ids=["def", "call", "part"])
@pytest.mark.parametrize("name", ["on_release", "on_grace_start", "on_grace_end", "on_move", "on_freed", "on_ended"])
def test_a_coroutine_function_is_no_callback_of_coordinator(name: str, callback: Callable[[object], Any]) -> None:
    """Nobody would await it: a release would be acknowledged while the locks stay. AsyncCoordinator takes it."""
    node = Coordinator.connect("redis://127.0.0.1:1/0", node="n1")
    with pytest.raises(InvalidArgument, match=f"{name}.*AsyncCoordinator"):
        getattr(node, name)(callback)
    assert not node._node.claims_releases
    getattr(AsyncCoordinator.connect("redis://127.0.0.1:1/0", node="n1"), name)(callback)


@each_face
@pytest.mark.parametrize(("name", "call", "named"), CALLS, ids=[name for name, _, _ in CALLS])
def test_a_bad_argument_is_refused_before_anything_is_sent(
    face: Callable[..., Any], name: str, call: Callable[[Any], Any], named: str
) -> None:
    """By InvalidArgument that names it, not by what the face would say to a call: that it was never started."""
    assert name
    node = face()
    with pytest.raises(InvalidArgument, match=named):
        outcome(call(node))
    assert node._release is None, "a callback that cannot be called claims nothing"
    assert not node._node.claims_releases


@each_face
def test_a_good_argument_is_taken(face: Callable[..., Any]) -> None:
    """The same calls with any iterable, a whole number of seconds, no verifier, get as far as being sent."""
    calls: list[Callable[[Any], Any]] = [
        lambda node: node.clients.touch_many(iter(["a", b"b"])),
        lambda node: node.clients.register_many(iter([{"client": "a", "adapter": "nfs"}])),
        lambda node: node.clients.register("a", adapter="nfs", verifier=None, principal=b"p"),
        lambda node: node.grace.start({"a"}, if_empty="skip"),
        lambda node: node.grace.wait_normal(0),
        lambda node: node.grace.wait_in_force(float("inf")),
        lambda node: node.clients.stale(30),
        lambda node: node.clients.count("nfs"),
    ]
    for call in calls:
        with pytest.raises(Closed):
            outcome(call(face()))


# -- URLs -------------------------------------------------------------------------------------------------------------

each_connect = pytest.mark.parametrize("kind", [Coordinator, AsyncCoordinator], ids=["sync", "async"])


@each_connect
@pytest.mark.parametrize(
    "url",
    [
        None,
        5,
        b"redis://:s3cret@h",
        "",
        "redis://:s3cret@h/0?bogus=1",
        "redis://h/0?bogus=1&password=s3cret",
        "redis://h?protocol=9&password=s3cret",
        "redis://h:port?password=s3cret",
        "http://h?password=s3cret",
        "redis://:s3cret@a..b:6379/0",
        "redis://:s3/cret@h",
        "redis://:12/s3cret@h",
        "redis://:s3cret/0",
    ],
    ids=str,
)
def test_a_url_that_can_never_connect_is_refused_at_once(kind: type[Coordinator], url: Any) -> None:
    """Not only at start: unknown options, a host that is no name. Neither the error nor a cause tells the password."""
    with pytest.raises(InvalidArgument, match=r"url (is no Redis URL|must be a str)") as caught:
        kind.connect(url, node="n1")
    told: BaseException | None = caught.value
    while told is not None:
        assert "s3" not in str(told)
        assert "cret" not in str(told)
        told = told.__cause__ or told.__context__


@each_connect
def test_urls_with_options_that_redis_py_knows_are_taken(kind: type[Coordinator]) -> None:
    """An @ in the path of a socket or in an option is no password."""
    for url in (
        "redis://h",
        "redis://user:p%2F@h:7000/3?socket_timeout=3&max_connections=5&client_name=a@b",
        "rediss://h:1?ssl_cert_reqs=none",
        "unix:///run/a@b.sock?db=3",
    ):
        kind.connect(url, node="n1")


@pytest.mark.parametrize("client", ["redis://:s3cret@h", b"redis://:s3cret@h", None], ids=str)
@each_connect
def test_a_url_in_the_place_of_a_client_is_not_shown(kind: type[Coordinator], client: Any) -> None:
    """It is refused by its type."""
    with pytest.raises(InvalidArgument, match="redis must be a") as caught:
        kind(client, node="n1")
    assert "s3cret" not in str(caught.value)


def test_a_server_of_our_own_has_a_url_that_is_taken(server_binary: str) -> None:
    """The strict reading of URLs lets those of the embedded server through."""
    with Server(server_binary) as server, Coordinator.connect(server.url, node="n1") as node:
        assert node.grace.view().reason == "no data"
