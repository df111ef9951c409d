"""The grace period: start, withdraw, end, views. No I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator.node.life import Life
from coordinator.node.requests import Flow
from coordinator.protocol import grace, nodes
from coordinator.protocol.call import BATCH_MAX
from coordinator.values import GracePeriod, GraceStarted, GraceState, GraceView, text_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence


class Grace(Life):
    """Procedures about the period of the scope."""

    # -- start: open a roster, read the lock store, bring what it has ----------------------------------------------

    def open_roster(self, if_empty: str, reason: str) -> Flow[int]:
        """Open this node's roster before its lock store is read; return the epoch that it is for."""
        why = text_bytes("reason", reason)
        epoch, _ = yield from self._start(0, (), more=True, if_empty=if_empty, reason=why)
        return epoch

    def bring_roster(
        self, epoch: int, ids: Sequence[bytes], bad: Sequence[str | bytes], if_empty: str, reason: str
    ) -> Flow[GraceStarted]:
        """Bring the clients that the lock store has, 200 a call. Raises StaleEpoch: open it and read anew."""
        words: Counter[str] = Counter()
        started, first, why = 0, 0, text_bytes("reason", reason)
        while first < max(1, len(ids)):
            batch, first = ids[first : first + BATCH_MAX], first + BATCH_MAX
            started, answers = yield from self._start(
                epoch, batch, more=first < len(ids), if_empty=if_empty, reason=why
            )
            words.update(answers)
        yield from self.acknowledge()
        return GraceStarted(started or None, words["EXPECTED"], words["LIVE"], words["FORFEITED"], tuple(bad))

    def _start(
        self, epoch: int, batch: Sequence[bytes], *, more: bool, if_empty: str, reason: bytes
    ) -> Flow[tuple[int, list[str]]]:
        return self.ask(
            lambda head: grace.start(
                self.meta, head, self.name, epoch, batch, more=more, if_empty=if_empty, reason=reason
            )
        )

    def withdraw(self) -> Flow[int]:
        """Take this node's roster back; return how many rights were on it."""
        count = yield from self.ask(lambda head: grace.withdraw(self.meta, head, self.name))
        yield from self.acknowledge()
        return count

    # -- end --------------------------------------------------------------------------------------------------------

    def end_grace(self, reason: str, epoch: int = 0) -> Flow[None]:
        """End the period of this epoch, 0: whichever it is."""
        if not reason:
            msg = "reason='' must say why the period is ended: clients lose locks by it"
            raise errors.InvalidArgument(msg)
        why, view = text_bytes("reason", reason), self.lease.view
        # Named in the request, so that a repeat never ends the next one.
        meant = epoch or (view.epoch if view.state is GraceState.ACTIVE else 0)
        yield from self.ask(lambda head: grace.end(self.meta, head, meant, why))
        yield from self.acknowledge()

    def advance(self) -> Flow[None]:
        """Move the period at its deadline."""
        acked = self.lease.acked
        yield from self.ask(lambda head: grace.advance(self.meta, head, acked))
        self.told = max(self.told, acked)
        yield from self.acknowledge()

    # -- views ------------------------------------------------------------------------------------------------------

    def scope_view(self) -> Flow[nodes.ScopeView]:
        """Read the whole picture."""
        return self.ask(lambda head: nodes.view(self.meta, head, self.settings.adapters))

    def grace_view(self) -> Flow[GraceView]:
        """Read the period as Redis has it now."""
        found = yield from self.scope_view()
        view = found.view
        return GraceView(
            state=view.state,
            epoch=view.epoch,
            revision=view.revision,
            in_force=view.in_force,
            closing=view.closing,
            remaining_seconds=max(0.0, (view.deadline_ms - found.clock_ms) / 1000),
            expected_clients=found.remaining + found.reclaimed,
            reclaimed_clients=found.reclaimed,
            waiting_for=found.waiting_for or found.sample,
            started_at=found.started_ms / 1000,
            reason=found.reason,
        )

    def announce_last(self) -> Flow[None]:
        """Announce the last period from its summary, when its event was lost."""
        found = yield from self.scope_view()
        if not found.last[0]:
            return
        epoch, reason, started, duration, reclaimed, forfeited = found.last
        done, lost = int(reclaimed), int(forfeited)
        self.ended(GracePeriod(int(epoch), reason, int(started) / 1000, int(duration) / 1000, done + lost, done, lost))

    def roster_page(self, which: str, at: grace.Page) -> Flow[tuple[grace.Page, list[bytes]]]:
        """Read a page of expected, reclaimed or forfeited clients."""
        return self.ask(lambda head: grace.roster(self.meta, head, which, at, BATCH_MAX))
