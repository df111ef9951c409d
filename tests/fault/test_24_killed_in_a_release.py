"""Scenario 24: the worker, the client's node or Redis is killed in the middle of a release."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from coordinator import Coordinator, Release, errors
from coordinator.protocol.keys import Keys
from tests.fault.child import BOUND, hear, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    import redis

    from coordinator.embedded import Server
    from coordinator.protocol.releases import Claim
    from tests.fault.child import Child

CALLBACK = "the callback"
KEYS = Keys("dittofs", "default")
BY_HEARTBEATS = ("meta", "members", "node", "events")
"""Keys that heartbeats write."""


def endings(node: Coordinator, monkeypatch: pytest.MonkeyPatch) -> queue.Queue[str]:
    """Return a queue that tells how each acknowledgement of a node ended: `told`, or the name of its error."""
    ended: queue.Queue[str] = queue.Queue()
    done = node._keeper.done

    def told(claim: Claim) -> Iterator[Any]:
        try:
            yield from done(claim)
        except errors.CoordinatorError as error:
            ended.put(type(error).__name__)
            raise
        ended.put("told")

    monkeypatch.setattr(node._keeper, "done", told)
    return ended


def left_of(admin: Any, client: bytes) -> set[bytes]:
    """Return the keys that still know a client: its record, place, right, or work to be done for it."""
    known = {key for key in (KEYS.key("client", client),) if admin.exists(key)}
    has: dict[str, Callable[[bytes], Any]] = {
        "adapter": lambda key: admin.sismember(key, client),
        "clients": lambda key: admin.sismember(key, client),
        "holders": lambda key: admin.hexists(key, client),
    }
    for kind, knows in has.items():
        known |= {key for key in admin.scan_iter(KEYS.key(kind) + b":*") if knows(key)}
    if admin.hexists(KEYS.key("releases"), client):
        known.add(KEYS.key("releases"))
    if admin.zscore(KEYS.key("due"), client) is not None:
        known.add(KEYS.key("due"))
    return known


def stored(admin: Any) -> dict[bytes, Any]:
    """Return all data but what heartbeats write."""
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"hash": admin.hgetall,
        b"set": admin.smembers,
        b"zset": lambda key: admin.zrange(key, 0, -1, withscores=True),
    }
    keys = [key for key in admin.scan_iter() if KEYS.name_of(key) not in BY_HEARTBEATS]
    return {key: read[admin.type(key)](key) for key in keys}


def worker(pipe: Connection, url: str, clients: tuple[str, ...], claim_seconds: float, hangs: str = CALLBACK) -> None:
    """Be a node that never ends a release; it has clients with a lock each, and the first disconnects when told to."""
    node = Coordinator.connect(url, node="killed", settings=short(claim_seconds=claim_seconds)).start()
    never = threading.Event()

    def hang(release: Release) -> Any:
        pipe.send((release.client_id, release.generation))
        never.wait()

    def free(release: Release) -> None:
        if hangs == CALLBACK:
            hang(release)

    if hangs != CALLBACK:  # what the worker does with its claim then, it never does
        mock.patch.object(node._keeper, hangs, lambda claim: hang(claim.release)).start()
    for client in clients:
        node.clients.register(client, adapter="nfs")
        with node.granting(client):
            pass
    node.on_release(free)
    pipe.send(node.owner)
    hear(pipe)
    if clients:
        node.clients.unregister(clients[0])
    never.wait()


@pytest.mark.parametrize(
    "hangs", ["may_begin", CALLBACK, "done"], ids=["after the claim", "in the callback", "before the ack"]
)
def test_24_a_release_whose_worker_is_killed_is_done_by_another_node(
    hangs: str,
    spawn: Callable[..., Child],
    join: Callable[..., Coordinator],
    admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SIGKILL before the callback begins, in it, or after it: another node frees the same once more, and acks."""
    freed: queue.Queue[Release] = queue.Queue()
    home = join("home", short())  # has no callback
    child = spawn(worker, (), 2.8, hangs)
    child.hear()
    child.pipe.send("go on")
    home.clients.register("gone", adapter="nfs")
    with home.granting("gone"):
        pass
    home.clients.unregister("gone")
    begun = child.hear()
    child.kill()
    places = {KEYS.key("adapter", b"nfs"), KEYS.key("clients", home.owner.encode())}
    work = {KEYS.key("due"), KEYS.key("releases")}
    assert left_of(admin, b"gone") == {KEYS.key("client", b"gone")} | places | work

    other = join("other", short())
    ended = endings(other, monkeypatch)
    other.on_release(freed.put)
    release = freed.get(timeout=BOUND)
    assert begun == (release.client_id, release.generation)
    assert release == Release("gone", release.generation, "disconnect", "nfs")
    assert ended.get(timeout=BOUND) == "told"
    assert left_of(admin, b"gone") == set()
    assert freed.empty()


def test_24_a_release_whose_node_is_killed_is_done_although_that_is_lost(
    spawn: Callable[..., Child],
    join: Callable[..., Coordinator],
    admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client's own node dies in the callback and is evicted meanwhile: it is freed in the grace that follows.

    What the dead node's other client holds is not: that one reclaims.
    """
    freed: queue.Queue[Release] = queue.Queue()
    other = join("other", short())
    ended = endings(other, monkeypatch)
    other.on_release(freed.put)
    child = spawn(worker, ("gone", "stays"), 8.0)
    child.hear()
    child.pipe.send("go on")
    begun = child.hear()
    child.kill()

    assert other.grace.wait_in_force(BOUND)
    assert list(other.grace.expected_clients()) == ["stays"], "the right of the other ended with the claim"
    release = freed.get(timeout=BOUND)
    assert begun == (release.client_id, release.generation)
    assert release == Release("gone", release.generation, "disconnect", "nfs")
    assert ended.get(timeout=BOUND) == "told"
    assert left_of(admin, b"gone") == set()
    other.clients.register("stays", adapter="nfs")
    with other.reclaiming("stays"):
        pass
    assert other.grace.wait_normal(BOUND)
    assert freed.empty()


def test_24_redis_killed_in_a_release_loses_nothing(
    server: Server,
    users: Path,
    join: Callable[..., Coordinator],
    admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis is killed with -9 in the middle of a callback and comes back from its append-only file.

    All is as it was: registrations, holders, due entries, claims. The release is done once more and acknowledged.
    """
    freed: queue.Queue[str] = queue.Queue()
    may_end = threading.Event()

    def free(release: Release) -> None:
        freed.put(release.client_id)
        assert may_end.wait(BOUND)

    node = join("node", short(claim_seconds=6.0))
    ended = endings(node, monkeypatch)
    monkeypatch.setattr(node._keeper, "_renew_claims", lambda: iter(()))  # nothing changes while it is looked at
    node.on_release(free)
    for client, ttl in (("gone", 0.0), ("stays", 0.0), ("waits", 3600.0)):
        node.clients.register(client, adapter="nfs", ttl=ttl)
        with node.granting(client):
            pass
    node.clients.unregister("waits")
    node.clients.unregister("gone")
    assert freed.get(timeout=BOUND) == "gone"
    before = stored(admin)
    server.kill()
    may_end.set()
    assert ended.get(timeout=BOUND) in {"Unavailable", "OutcomeUnknown", "LeaseLapsed"}, "nobody hears the ack"

    rules = users.read_text()
    users.write_text(rules.replace(" on ", " off "))  # nobody writes before it was looked at
    server.start()
    assert stored(admin) == before
    users.write_text(rules)
    assert admin.execute_command("ACL", "LOAD")  # type: ignore[no-untyped-call]

    assert freed.get(timeout=BOUND) == "gone"
    assert ended.get(timeout=BOUND) == "told"
    assert left_of(admin, b"gone") == set()
    after = stored(admin)
    for name in (b"stays", b"waits"):
        assert after[KEYS.key("client", name)] == before[KEYS.key("client", name)]
    holders = KEYS.key("holders", node.owner.encode())
    assert after[holders].keys() == {b"stays", b"waits"}
    assert after[holders] == before[holders]
    (due,) = after[KEYS.key("due")]
    assert due[0] == b"waits"
    assert due in before[KEYS.key("due")]
    assert node.grace.view().epoch == 0
    assert freed.empty()
