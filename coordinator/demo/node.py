"""One node of the demo as a process of its own: takes commands as JSON lines, answers and reports as JSON lines.

It stands for a file server: it asks the coordinator and tells its parent, which keeps the locks. Not for production.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from coordinator import Coordinator, Operation, Release, Settings, clock
from coordinator.errors import CoordinatorError

_WATCH_SECONDS = 0.002


class DemoNode:
    """Runs commands against a coordinator and reports what it sees."""

    def __init__(self, url: str, name: str, settings: Settings) -> None:
        """Make the coordinator; nothing is sent yet."""
        self.name = name
        self.coordinator = Coordinator.connect(url, node=name, settings=settings)
        self.coordinator.on_release(self._released)
        self.coordinator.on_move(lambda move: self.say("moved", client=move.client_id, to=move.to))
        self.coordinator.on_grace_end(
            lambda p: self.say("ended", epoch=p.epoch, reclaimed=p.reclaimed, forfeited=p.forfeited)
        )
        self._mutex = threading.Lock()

    def say(self, event: str, **facts: Any) -> None:
        """Write one line: node, event, node time."""
        with self._mutex:
            print(json.dumps({"node": self.name, "event": event, "at": clock.now(), **facts}), flush=True)

    def _released(self, release: Release) -> None:
        self.say("released", client=release.client_id, reason=release.reason)

    def watch(self) -> None:
        """Report each change of the local view: it is what `check` answers, without a round trip."""
        last = ""
        while True:
            new = self.coordinator.grace.check(Operation.NEW)
            reclaim = self.coordinator.grace.check(Operation.RECLAIM)
            state = "normal" if new.allowed else str(new.reason.value if new.reason else "")
            if not new.allowed and reclaim.allowed:
                state = "in_force"
            if state != last:
                self.say("view", state=state)
                last = state
            time.sleep(_WATCH_SECONDS)

    def execute(self, command: dict[str, Any]) -> dict[str, Any]:
        """Run one command and return its answer."""
        client, node = command.get("client", ""), self.coordinator
        match command["do"]:
            case "register":
                registration = node.clients.register(client, adapter="nfs", ttl=command.get("ttl", 0.0))
                return {"holder": registration.holder, "must_reclaim": registration.must_reclaim}
            case "lock":
                with node.granting(client) as grant:
                    pass
                return {"owner": grant.owner, "generation": grant.generation}
            case "reclaim":
                with node.reclaiming(client):
                    pass
                return {}
            case "unregister":
                return {"due_in": node.clients.unregister(client).due_in_seconds}
            case "view":
                view = node.grace.view()
                return {"expected": view.expected_clients, "reclaimed": view.reclaimed_clients}
            case other:
                return {"error": f"unknown command {other}"}

    def serve(self) -> None:
        """Join, then run commands until standard input ends."""
        with self.coordinator:
            self.say("joined", owner=self.coordinator.owner)
            threading.Thread(target=self.watch, daemon=True).start()
            for line in sys.stdin:
                command = json.loads(line)
                try:
                    answer = self.execute(command)
                except CoordinatorError as error:
                    retry_after = getattr(error, "retry_after", 0.0)
                    answer = {"refused": type(error).__name__, "why": str(error), "retry_after": retry_after}
                self.say("answer", id=command["id"], **answer)


if __name__ == "__main__":
    DemoNode(sys.argv[1], sys.argv[2], Settings(namespace=sys.argv[3])).serve()
