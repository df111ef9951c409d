"""Every script but a first join, as a node would send it now: for what must be refused whatever is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.protocol import Call, Head, clients, grace, nodes, releases, script
from coordinator.protocol.call import OPERATOR

if TYPE_CHECKING:
    from tests.world import Player

OF_NO_MEMBER = {"node_join", "scope_init", "scope_lost"}
"""Scripts that a node asks for before it is a member, or when it is one no more; and an operator."""


OF_NO_MEMBER = {"node_join", "scope_init", "scope_lost"}
"""Scripts that a node asks for before it is a member, or when it is one no more; and an operator."""


def every_call(player: Player, client: str, victim: str) -> list[Call[Any]]:
    """Return one call of each script, about this client, one of them to evict this owner."""
    node, raw = player.node, client.encode()
    key, head = node.meta, node.lease.head(node.now())
    generation = int(player.world.redis.hget(player.world.key("client", client), "g") or 1)
    claim = releases.own(raw, generation, "nfs", "1")
    item = node.registering(client, "nfs", "", 0, "rebooted", None)
    calls: list[Call[Any]] = [
        clients.hold(key, head, [(raw, generation)]),
        clients.drop(key, head, [(raw, generation)]),
        clients.touch(key, head, [raw]),
        clients.cancel(key, head, [raw], own=False),
        clients.yield_(key, head, [raw]),
        clients.page(key, head, "nfs", "0", 10),
        clients.register(key, head, [item]),
        clients.revoke(key, head, raw),
        clients.unregister(key, head, [(raw, 0)], 10_000, 1_000),
        clients.view(key, head, [raw]),
        grace.start(key, head, node.name, 0, [], more=True, if_empty="wait", reason=b"x"),
        grace.withdraw(key, head, node.name),
        grace.end(key, head, 0, b"x"),
        grace.advance(key, head, 0),
        grace.admit(key, head, raw),
        grace.complete(key, head, [raw]),
        grace.roster(key, head, "expected", grace.FIRST_PAGE, 10),
        nodes.initialize(key, Head(OPERATOR, 0.0), "another"),
        nodes.join(
            key,
            Head(OPERATOR, 0.0),
            node.name,
            "boot",
            "dataset",
            node.settings,
            "version",
            predecessor_dead=False,
        ),
        nodes.renew(key, head, 10**9),
        nodes.leave(key, head),
        nodes.evict(key, head, victim),
        nodes.lost(key, head, "another", 1, 1, node.settings),
        nodes.view(key, head, ("nfs",)),
        releases.claim(key, head, 100, 10_000, 0),
        releases.renew(key, head, [claim], 10_000),
        releases.ack(key, head, [claim], ("nfs",)),
        releases.drain(key, head, 100),
    ]
    assert sorted(call.script.name for call in calls) == list(script.names()), "a script is missing here"
    return calls


def members_calls(player: Player, client: str, victim: str) -> list[Call[Any]]:
    """Return those of them that only a member asks for."""
    return [call for call in every_call(player, client, victim) if call.script.name not in OF_NO_MEMBER]
