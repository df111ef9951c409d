"""The grace period: start, end, advance, views. No I/O."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator import protocol as calls
from coordinator.node.lease import Head, State
from coordinator.protocol import call as base
from coordinator.protocol import grace, nodes
from coordinator.values import (
    GracePeriod,
    GraceView,
    text_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

from coordinator.node.life import Core, Flow, Sleep

_STARTING_POLL_SECONDS = 0.01


class GraceFlows(Core):
    """Procedures about the period of the scope."""

    def start_grace(self, ids: Sequence[bytes], if_empty: str, reason: str) -> Flow[None]:
        """Bring this node's restored roster, in batches."""
        if if_empty not in {"wait", "skip"}:
            msg = f"if_empty={if_empty!r} must be 'wait' or 'skip'"
            raise errors.InvalidArgument(msg)
        why, first = text_bytes("reason", reason), 0
        while not self._starting.acquire(blocking=False):
            yield Sleep(_STARTING_POLL_SECONDS)  # one at a time: a repeat is known by the node's last request only
        try:
            while first < max(1, len(ids)):
                batch, first = ids[first : first + base.BATCH_MAX], first + base.BATCH_MAX
                yield from self._start_grace(batch, if_empty, why, more=first < len(ids))
        finally:
            self._starting.release()

    def _start_grace(
        self, batch: Sequence[bytes], if_empty: str, reason: bytes, *, more: bool
    ) -> Flow[tuple[str, ...]]:
        request = secrets.token_hex(8)
        return self.ask_tight(
            lambda head: grace.start(
                self.keys, head, self.name, batch, request, more=more, if_empty=if_empty, reason=reason
            )
        )

    def end_grace(self, reason: str, epoch: int = 0) -> Flow[None]:
        """End the period of this epoch, 0: whichever it is."""
        if not reason:
            msg = "reason='' must say why the period is ended: clients lose locks by it"
            raise errors.InvalidArgument(msg)
        why, request = text_bytes("reason", reason), secrets.token_hex(8)
        yield from self.ask_tight(lambda head: grace.end(self.keys, head, epoch, why, request))

    def advance(self) -> Flow[None]:
        """Move the period at its deadline."""
        yield from self.ask_tight(lambda head: grace.advance(self.keys, head, tight=True))

    def scope_view(self) -> Flow[tuple[State, nodes.ScopeView]]:
        """Read the whole picture, with the head it came with."""
        states: list[State] = []

        def build(head: Head) -> calls.Call[nodes.ScopeView]:
            call = nodes.view(self.keys, head, self.settings.adapters)

            def parse(reply: base.Reply) -> nodes.ScopeView:
                states.append(reply.state)
                return call.parse(reply)

            return calls.Call(call.script, call.keys, call.args, call.head, parse)

        view = yield from self.ask(build)
        return states[-1], view

    def grace_view(self) -> Flow[GraceView]:
        """Read the period as Redis has it now."""
        state, view = yield from self.scope_view()
        return GraceView(
            state=state.state,
            epoch=state.epoch,
            revision=state.revision,
            in_force=state.in_force,
            closing=state.closing,
            remaining_seconds=max(0.0, (state.deadline_ms - state.clock_ms) / 1000),
            expected_clients=view.remaining + view.reclaimed,
            reclaimed_clients=view.reclaimed,
            waiting_for=view.waiting_for or view.sample,
            started_at=view.started_ms / 1000,
            reason=view.reason,
        )

    def announce_last(self) -> Flow[None]:
        """Announce the last period from its summary, when its event was lost."""
        _, view = yield from self.scope_view()
        if not view.last[0]:
            return
        epoch, reason, started, duration, reclaimed, forfeited = view.last
        done, lost = int(reclaimed), int(forfeited)
        self.ended(GracePeriod(int(epoch), reason, int(started) / 1000, int(duration) / 1000, done + lost, done, lost))

    def roster_page(self, which: str, at: tuple[str, str]) -> Flow[tuple[tuple[str, str], list[bytes]]]:
        """Read a page of expected or reclaimed clients."""
        return self.ask(lambda head: grace.roster(self.keys, head, which, at, base.BATCH_MAX))
