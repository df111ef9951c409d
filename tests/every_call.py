"""Each script that a member asks for, as a node would send it now: for what is refused whatever is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coordinator.protocol import Call, clients, grace, nodes, releases, script

if TYPE_CHECKING:
    from tests.world import Player

OF_NO_MEMBER = {"node_join", "scope_init", "scope_lost"}
"""Scripts that a node asks for before it is a member, or when it is one no more; and an operator."""


def every_call(player: Player, client: str, victim: str) -> list[Call[Any]]:
    """Return one call of each script that a member asks for, about this client; one of them evicts this owner."""
    node, raw = player.node, client.encode()
    key, head = node.meta, node.lease.head(node.now())
    generation = int(player.world.redis.hget(player.world.key("client", client), "generation") or 1)
    claim = releases.own(raw, generation, "nfs", "1")
    item = node.registering(client, "nfs", "", 0, "rebooted", None)
    calls: list[Call[Any]] = [
        clients.cancel(key, head, [raw], own=False),
        clients.drop(key, head, [(raw, generation)]),
        clients.hold(key, head, [(raw, generation)]),
        clients.page(key, head, "nfs", "0", 10),
        clients.register(key, head, [item]),
        clients.revoke(key, head, raw),
        clients.touch(key, head, [raw]),
        clients.unregister(key, head, [(raw, 0)], 10_000, 60_000),
        clients.view(key, head, [raw]),
        clients.yield_(key, head, [raw]),
        grace.start(key, head, node.name, 0, (), more=True, if_empty="wait", reason=b"x"),
        grace.withdraw(key, head, node.name),
        grace.end(key, head, 0, b"x"),
        grace.advance(key, head, 10**9),
        grace.admit(key, head, raw),
        grace.complete(key, head, [raw]),
        grace.roster(key, head, "expected", grace.FIRST_PAGE, 10),
        nodes.renew(key, head, 10**9),
        nodes.leave(key, head),
        nodes.evict(key, head, victim),
        nodes.view(key, head, ("nfs",)),
        releases.claim(key, head, 100, 10_000, 0),
        releases.renew(key, head, [claim], 10_000),
        releases.ack(key, head, [claim], ("nfs",)),
        releases.drain(key, head, 100),
    ]
    names = [call.script.name for call in calls]
    assert sorted({*names, *OF_NO_MEMBER}) == list(script.names()), "a script is missing here"
    return calls
