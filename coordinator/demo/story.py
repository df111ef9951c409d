"""The demo: three nodes as processes, a SIGKILL, reclaims, a disconnect that waits. Fails when one did not happen.

Live progress on a terminal, plain lines elsewhere. Every time it prints was measured in this run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from coordinator import clock
from coordinator.api.installation import initialize
from coordinator.embedded import Server
from coordinator.errors import CoordinatorError
from coordinator.protocol.keys import Keys
from coordinator.settings import Settings
from coordinator.wire.connector import from_url, ping
from coordinator.wire.housekeeping import delete_namespace, ttl_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENTS = 12
TTL_SECONDS = 3.0
ANSWER_SECONDS = 10.0


class DidNotHappenError(CoordinatorError):
    """Something the demo promises did not happen in time."""


@dataclass
class Process:
    """A node's process and what it said."""

    name: str
    url: str
    namespace: str
    heard: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start it."""
        self._ids = itertools.count(1)
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._child = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "coordinator.demo.node", self.url, self.name, self.namespace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._child.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None  # noqa: S101  (a pipe was asked for)
        for line in self._child.stdout:
            self.heard.append(json.loads(line))
            self._news.put(None)

    def until(
        self, what: str, matches: Callable[[dict[str, Any]], bool], timeout: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Return the first line that matches; raise DidNotHappenError after `timeout` seconds."""
        deadline = clock.now() + timeout
        seen = 0
        while True:
            while seen < len(self.heard):
                if matches(self.heard[seen]):
                    return self.heard[seen]
                seen += 1
            left = deadline - clock.now()
            if left <= 0:
                msg = f"{self.name}: {what} did not happen within {timeout:.0f} s"
                raise DidNotHappenError(msg)
            with contextlib.suppress(queue.Empty):
                self._news.get(timeout=left)

    def until_time(self, at: float) -> None:
        """Wait until a node time."""
        with contextlib.suppress(DidNotHappenError):
            self.until("", lambda _: False, max(0.0, at - clock.now()))

    def ask(self, do: str, client: str = "", **more: Any) -> dict[str, Any]:
        """Send a command and return its answer, a refusal included."""
        number = next(self._ids)
        assert self._child.stdin is not None  # noqa: S101  (a pipe was asked for)
        self._child.stdin.write(json.dumps({"id": number, "do": do, "client": client, **more}) + "\n")
        self._child.stdin.flush()
        return self.until(f"the answer to {do} {client}", lambda line: line.get("id") == number)

    def must(self, do: str, client: str = "", **more: Any) -> dict[str, Any]:
        """Send a command that must not be refused."""
        answer = self.ask(do, client, **more)
        if "refused" in answer:
            msg = f"{self.name}: {do} {client} was refused: {answer['refused']}: {answer['why']}"
            raise DidNotHappenError(msg)
        return answer

    def kill(self) -> float:
        """Kill it as a crash would; return the node time."""
        at = clock.now()
        os.kill(self.pid, signal.SIGKILL)
        self._reap()
        return at

    def end(self) -> None:
        """Let it leave."""
        if self._child.poll() is None and self._child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
            try:
                self._child.wait(ANSWER_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._reap()

    def _reap(self) -> None:
        self._child.wait()
        self._reader.join(ANSWER_SECONDS)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Demo:
    """Both acts, told as they happen."""

    def __init__(self, url: str) -> None:
        """Use the Redis at `url`, in a namespace of its own."""
        self.console = Console(highlight=False, soft_wrap=True)
        self.namespace = f"demo-{secrets.token_hex(4)}"
        self.settings = Settings(namespace=self.namespace)
        self.redis = from_url(url)
        self.url = url
        self.nodes: dict[str, Process] = {}
        self.figures: list[tuple[str, str]] = []
        self._began = clock.now()

    def __enter__(self) -> Self:
        """Mark the scope as new, start the nodes."""
        initialize(self.redis, namespace=self.namespace)
        for name in ("node-1", "node-2", "node-3"):
            self.nodes[name] = Process(name, self.url, self.namespace)
        return self

    def __exit__(self, *_: object) -> None:
        """End the nodes, remove the namespace."""
        for node in self.nodes.values():
            node.end()
        with contextlib.suppress(Exception):
            delete_namespace(self.redis, self.namespace)
        self.redis.close()

    def tell(self, text: str) -> None:
        """Print a line with the time since the start."""
        self.console.print(f"[dim]{clock.now() - self._began:6.2f} s[/dim]  {text}")

    def measured(self, name: str, seconds: float) -> None:
        """Keep a figure for the summary."""
        self.figures.append((name, f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:.2f} s"))

    @contextlib.contextmanager
    def bar(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Draw a progress bar on a terminal; elsewhere nothing."""
        with Progress(
            TextColumn("          {task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        ) as progress:
            task = progress.add_task(what, total=total)
            yield lambda: progress.advance(task)

    @contextlib.contextmanager
    def countdown(self, what: str, seconds: float) -> Iterator[None]:
        """Draw, on a terminal, how much of an expected wait has passed."""
        over = threading.Event()

        def tick(done: Callable[[], None]) -> None:
            while not over.wait(0.1):
                done()

        with self.bar(f"{what} ({seconds:.1f} s)", int(seconds * 10)) as done:
            ticker = threading.Thread(target=tick, args=(done,), daemon=True)
            ticker.start()
            try:
                yield
            finally:
                over.set()
                ticker.join()

    # -- act one ----------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Kill a node; its clients reclaim on the others before anybody else may lock."""
        self.console.print("\n[bold]Act 1: a node dies[/bold]")
        for node in self.nodes.values():
            owner = node.until("joining", lambda line: line["event"] == "joined")["owner"]
            self.tell(f"{node.name} joined as {owner} (process {node.pid})")
        clients = [f"client-{i}" for i in range(1, CLIENTS + 1)]
        victim, others = self.nodes["node-2"], [self.nodes["node-1"], self.nodes["node-3"]]
        for client in clients:
            victim.must("register", client)
            victim.must("lock", client)
        others[0].must("register", "bystander")
        others[0].must("lock", "bystander")
        self.tell(f"{CLIENTS} clients hold locks through node-2, one bystander through node-1")
        for client in ("idle-client", "visitor"):
            victim.must("register", client)

        killed = victim.kill()
        self.tell("[red]kill -9 node-2[/red]: its locks stay held; the others must notice that its lease runs out")
        others[0].must("register", "visitor")
        self.tell("visitor, which had no lock, reaches node-1: registered at once")
        lapse = self.settings.lease_seconds + self.settings.barrier_margin_seconds
        with self.countdown("node-2's lease and margin run out", lapse):
            self._register_at_last(others[1], clients[0])
            noticed = {
                node.name: self._view(node, lambda state: state in {"grace_active", "in_force"}, killed)
                for node in others
            }
        first = min(noticed, key=lambda name: noticed[name])
        self.tell(f"noticed by {first}: grace starts; new locks are refused on all nodes")
        self.measured("crash to grace (lease 6 s + margin 2.5 s + heartbeat)", noticed[first] - killed)
        force = [self._view(node, lambda state: state == "in_force", killed) for node in others]
        self.tell("barrier passed: every node that lives has stopped granting; reclaims are admitted")
        self.measured("grace start to in force on all nodes", max(force) - noticed[first])
        refused = others[0].ask("lock", "bystander")
        if refused.get("refused") != "GraceActive":
            msg = f"a new lock in grace must be refused, but: {refused}"
            raise DidNotHappenError(msg)
        self.tell(f"the bystander wants another lock: {refused['why']}")

        began = clock.now()
        with self.bar("reclaiming", CLIENTS) as done:
            for client, node in zip(clients, itertools.cycle(reversed(others)), strict=False):
                if client != clients[0]:
                    node.must("register", client)
                node.must("reclaim", client)
                done()
        reclaimed = clock.now()
        self.measured(f"{CLIENTS} clients reclaimed, one after the other", reclaimed - began)
        ends = [node.until("the end of grace", lambda line: line["event"] == "ended") for node in others]
        if any((end["reclaimed"], end["forfeited"]) != (CLIENTS, 0) for end in ends):
            msg = f"all {CLIENTS} clients reclaimed, but the summary says {ends[0]}"
            raise DidNotHappenError(msg)
        normal = [self._view(node, lambda state: state == "normal", began) for node in others]
        self.tell(f"early exit: all {CLIENTS} clients are back, {self.settings.grace_seconds:.0f} s were not needed")
        self.measured("last reclaim to new locks on all nodes", max(0.0, max(normal) - reclaimed))
        others[0].must("lock", "bystander")
        self.tell("the bystander locks again")
        freed = self._released(others, "idle-client")
        self.tell(f"idle-client held nothing: {freed['node']} gave its place back ({freed['reason']})")

    def _register_at_last(self, node: Process, client: str) -> None:
        """Register a client that has locks at a dead node, as a server would: ask again for as long as it is held."""
        refused = node.ask("register", client)
        if refused.get("refused") != "ClientHeld":
            msg = f"{client} has locks at a node that may live, and must be told to wait, but: {refused}"
            raise DidNotHappenError(msg)
        self.tell(f"{client} reaches {node.name} and is told to wait: {refused['why']}")
        answer, asked = refused, 1
        while answer.get("refused") == "ClientHeld":
            node.until_time(clock.now() + answer["retry_after"])
            answer, asked = node.ask("register", client), asked + 1
        if not answer.get("must_reclaim"):
            msg = f"{client} must be registered at last, and be told to reclaim, but: {answer}"
            raise DidNotHappenError(msg)
        self.tell(f"{client} has asked {asked} times: {node.name} has it now, and tells it to reclaim")

    def _view(self, node: Process, matches: Callable[[str], bool], since: float) -> float:
        timeout = 3 * (self.settings.lease_seconds + self.settings.barrier_margin_seconds)
        line = node.until(
            "the change of its view",
            lambda line: line["event"] == "view" and line["at"] >= since and matches(line["state"]),
            timeout,
        )
        at: float = line["at"]
        return at

    def _released(self, nodes: list[Process], client: str) -> dict[str, Any]:
        """Return the line of the node that released the client, as soon as one did."""
        deadline = clock.now() + ANSWER_SECONDS
        while clock.now() < deadline:
            for line in itertools.chain.from_iterable(list(node.heard) for node in nodes):
                if line["event"] == "released" and line["client"] == client:
                    return line
            nodes[0].until_time(clock.now() + 0.02)
        msg = f"nobody released {client}"
        raise DidNotHappenError(msg)

    # -- act two ----------------------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """Two clients disconnect with a TTL: one comes back through another node, one does not."""
        self.console.print("\n[bold]Act 2: a disconnect that waits[/bold]")
        one, three = self.nodes["node-1"], self.nodes["node-3"]
        key = Keys(self.namespace, "default").key("client", b"laptop")
        for client in ("laptop", "gone"):
            one.must("register", client, ttl=TTL_SECONDS)
            one.must("lock", client)
            due = one.must("unregister", client)["due_in"]
            left = clock.now()
            self.tell(f"{client} disconnects from node-1; its locks are kept for {due:.1f} s")
        retention = self.settings.retention_seconds
        shown = ttl_of(self.redis, key) - retention
        self.tell(f"PTTL of laptop's key shows the wait: {shown:.2f} s (and {retention:.0f} s of retention)")
        with self.countdown("laptop is away", TTL_SECONDS * 0.6):
            one.until_time(left + TTL_SECONDS * 0.6)
        later = ttl_of(self.redis, key) - retention
        if not 0 < later < shown:
            msg = f"the TTL must fall, but went from {shown:.2f} to {later:.2f}"
            raise DidNotHappenError(msg)
        back = three.must("register", "laptop", ttl=TTL_SECONDS)
        if not back["holder"]:
            msg = "laptop came back in time, but its right to its locks did not move along"
            raise DidNotHappenError(msg)
        self.tell(f"laptop is back through node-3 with {later:.2f} s left: locks intact, the disconnect is cancelled")
        line = one.until("the release of gone", lambda line: line["event"] == "released" and line["client"] == "gone")
        self.tell("gone did not come back: node-1 frees its locks")
        self.measured("deadline to release callback", line["at"] - (left + TTL_SECONDS))
        one.until_time(left + TTL_SECONDS + 1)
        if any(
            line["event"] == "released" and line["client"] == "laptop"
            for node in self.nodes.values()
            for line in node.heard
        ):
            msg = "laptop was released although it came back"
            raise DidNotHappenError(msg)
        self.tell("laptop's deadline has passed: nothing was freed")

    def summary(self) -> None:
        """Print what was measured."""
        table = Table(title="Measured in this run", title_justify="left")
        table.add_column("what")
        table.add_column("took", justify="right")
        for name, value in self.figures:
            table.add_row(name, value)
        self.console.print()
        if self.console.is_terminal:
            self.console.print(table)
            return
        for name, value in self.figures:
            self.console.print(f"{name}: {value}")


def run(url: str | None) -> int:
    """Run the demo; return the exit code. Raises Unavailable when there is no Redis to use."""
    with contextlib.ExitStack() as stack:
        if url is None:
            server = stack.enter_context(Server())
            url = server.url
            print(f"embedded server: {server.binary}", flush=True)
        ping(url)
        demo = stack.enter_context(Demo(url))
        try:
            demo.crash()
            demo.disconnect()
        except (DidNotHappenError, OSError) as error:
            demo.console.print(f"[bold red]It did not happen:[/bold red] {error}")
            return 1
        demo.summary()
        return 0
