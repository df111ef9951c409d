"""Registrations: register, unregister, cancel, touch, revoke, views. No I/O."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator.node.life import NOT_DONE
from coordinator.node.registry import Entry
from coordinator.node.requests import Flow, Sleep
from coordinator.node.turns import TAKE_BACK_SECONDS, Turns, renewed
from coordinator.protocol import clients, releases
from coordinator.protocol.call import BATCH_MAX
from coordinator.settings import milliseconds, ttl_ms
from coordinator.values import ClientRegistration, Unregistered, client_bytes, client_str, text_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ASK_AGAIN_SECONDS = (0.003, 0.004, 0.005, 0.01, 0.02, 0.04, 0.08)
"""How long a register waits for a home to yield before it asks again; then 0.1 s each time."""


ONE_AT_A_TIME = b""
"""No client's id: the turn of calls of which Redis remembers one per node."""


class Clients(Turns):
    """Procedures about the clients of the scope."""

    room_for_claims: Callable[[], int] = staticmethod(lambda: 0)
    """How many more claims the keeper takes; it sets this."""
    _claims_asked_for = 0

    @property
    def claims_free(self) -> int:
        """How many claims may be asked for, beside those that are being asked for."""
        return self.room_for_claims() - self._claims_asked_for

    @contextlib.contextmanager
    def claiming(self, most: int, least: int = 1) -> Iterator[int]:
        """Keep room for claims that are asked for; yield for how many: 0 if there is not even for `least`."""
        with self._mutex:
            room = min(most, self.claims_free)
            room = room if room >= least else 0
            self._claims_asked_for += room
        try:
            yield room
        finally:
            with self._mutex:
                self._claims_asked_for -= room
            self.wake()  # the keeper may have found no room meanwhile

    # -- register -------------------------------------------------------------------------------------------------

    def registering(  # noqa: PLR0913, PLR0917  (the pinned signature)
        self,
        client: str | bytes,
        adapter: str,
        remote_addr: str,
        ttl: float,
        verifier: bytes | str | None,
        principal: bytes | str | None,
    ) -> clients.Registering:
        """Check the arguments of a registration."""
        return clients.Registering(
            client_bytes(client),
            adapter,
            self.settings.limit_of(adapter),
            text_bytes("remote_addr", remote_addr),
            ttl_ms(ttl),
            b"" if verifier is None else client_bytes(verifier, "verifier"),
            b"" if principal is None else client_bytes(principal, "principal"),
        )

    def register(
        self, items: Sequence[clients.Registering]
    ) -> Flow[list[ClientRegistration | errors.CoordinatorError]]:
        """Register clients here. One that another node serves is asked for, until that has closed it."""
        ids = [item.client for item in items]
        self.refuse_unless_valid()
        yield from self.take_turns(ids)
        try:
            old = yield from self.close_settled([(client, 0) for client in ids])
            try:
                answers = yield from self._ask_homes(items)
            except NOT_DONE:
                self.restore(old.values())
                raise
            except BaseException:
                for client in ids:  # perhaps registered: it is served again when it registers again
                    self.was_kept(client)
                raise
            return [
                self._taken(item, answer, old.get(item.client)) for item, answer in zip(items, answers, strict=True)
            ]
        finally:
            self.end_turns(ids)

    def _ask_homes(
        self, items: Sequence[clients.Registering]
    ) -> Flow[list[clients.Registered | errors.CoordinatorError]]:
        """Ask until every client is registered or refused; for those that are held elsewhere again, for up to 2 s."""
        answers = yield from self.ask(lambda head: clients.register(self.meta, head, items))
        waited = 0.0
        for pause in itertools.chain(_ASK_AGAIN_SECONDS, itertools.repeat(0.1)):
            held = [i for i, answer in enumerate(answers) if isinstance(answer, errors.ClientHeld)]
            if not held or waited >= TAKE_BACK_SECONDS:
                break
            yield Sleep(pause)
            waited += pause
            batch = [items[i] for i in held]
            try:
                again = yield from self.ask(lambda head, batch=batch: clients.register(self.meta, head, batch))  # type: ignore[misc]
            except errors.CoordinatorError as error:
                again = [error] * len(held)  # what was answered before is done
            for i, answer in zip(held, again, strict=True):
                answers[i] = answer
        return answers

    def _taken(
        self, item: clients.Registering, answer: clients.Registered | errors.CoordinatorError, old: Entry | None
    ) -> ClientRegistration | errors.CoordinatorError:
        if isinstance(answer, errors.CoordinatorError):
            self.metrics.connection(item.adapter, "refused")
            if isinstance(answer, errors.ConnectionLimitReached):
                self.metrics.limit_hit()
            if old is not None and isinstance(answer, errors.RegistrationRefused) and answer.reason != "moved":
                self.restore([old])  # another adapter or principal: the registration is what it was
            return answer
        if self.lease.is_over:
            return errors.Fenced(self.lease.why_not.value)
        new = Entry(item.client, 0, item.adapter, item.ttl_ms, lock_count=None if answer.holder else 0)
        entry = renewed(self.was_kept(item.client) or old or new, answer)
        entry.ttl_ms = item.ttl_ms
        self.wanted.pop(item.client, None)  # whoever asked for it before must ask again
        self.registry.put(entry)
        self.metrics.connection(item.adapter, "connect")
        return ClientRegistration(
            client_id=client_str(item.client),
            adapter=item.adapter,
            ttl=item.ttl_ms / 1000,
            registered_at=answer.registered_ms / 1000,
            last_seen=self.lease.clock_ms / 1000,
            remote_addr=client_str(item.remote_addr),
            lock_count=entry.lock_count,
            holder=answer.holder or answer.must_reclaim,
            owner=self.lease.owner,
            generation=answer.generation,
            state="live",
            must_reclaim=answer.must_reclaim,
        )

    # -- unregister, cancel, revoke -------------------------------------------------------------------------------

    def unregister(self, pairs: Sequence[tuple[bytes, int]]) -> Flow[list[Unregistered | errors.CoordinatorError]]:
        """Disconnect clients (id, generation or 0): their entries close first."""
        ids = [client for client, _ in pairs]
        self.refuse_unless_valid()
        yield from self.take_turns(ids)
        try:
            closed = yield from self.close_settled([pair for pair in pairs if self._is_meant(*pair)])
            asked = self.now()
            with self.claiming(len(pairs), least=len(pairs)) as room:
                claim_ms = milliseconds(self.settings.claim_seconds) if room else 0
                retention_ms = milliseconds(self.settings.retention_seconds)
                try:
                    answers = yield from self.ask(
                        lambda head: clients.unregister(self.meta, head, pairs, claim_ms, retention_ms)
                    )
                except NOT_DONE:
                    self.restore(closed.values())
                    raise
                except BaseException:
                    for client, generation in pairs:  # perhaps; it is served again when it registers again
                        entry = closed.get(client) or self.was_kept(client)
                        if entry is None and generation:
                            entry = self.registry.close(client, generation)
                        if entry is not None:
                            self.metrics.connection(entry.adapter, "disconnect")
                    raise
                return self._left(pairs, closed, answers, asked)
        finally:
            self.end_turns(ids)

    def _is_meant(self, client: bytes, generation: int) -> bool:
        """Tell whether a disconnect is about the entry here: what is named may never have been here."""
        entry = self.registry.get(client)
        return not generation or entry is None or entry.generation == generation

    def _left(
        self,
        pairs: Sequence[tuple[bytes, int]],
        closed: dict[bytes, Entry],
        answers: Sequence[clients.Leaving | errors.CoordinatorError],
        asked: float,
    ) -> list[Unregistered | errors.CoordinatorError]:
        """Take what was answered to disconnects that were asked for at a node time."""
        results: list[Unregistered | errors.CoordinatorError] = []
        claims: list[releases.Claim] = []
        for (client, _), answer in zip(pairs, answers, strict=True):
            if not isinstance(answer, clients.Leaving):
                results.append(answer)
                continue
            # An older one goes too: the reply to the registration that has ended was lost.
            kept = self.was_kept(client)
            entry = closed.get(client) or kept or self.registry.close(client, answer.generation)
            if entry is not None:
                self.metrics.connection(entry.adapter, "disconnect")
            if answer.token:
                claims.append(releases.own(client, answer.generation, answer.adapter, answer.token, answer.reason))
            else:
                self.due_at(answer.due_ms)
            wait = max(0.0, (answer.due_ms - self.lease.clock_ms) / 1000)
            results.append(Unregistered(client_str(client), answer.generation, wait))
        if claims:
            self.on_claims(claims, asked)
        return results

    def cancel(self, client: bytes) -> Flow[bool]:
        """End a deferral as a reconnect here would; False if there was none."""
        yield from self.take_turns([client])
        try:
            (answer,) = yield from self.ask(lambda head: clients.cancel(self.meta, head, [client], own=False))
            if answer.registered is None:
                return False
            known = self.registry.get(client)
            if answer.status == "LIVE" and known is not None:
                return False
            # LIVE, and unknown here: cancelled before, and the reply was lost.
            blank = Entry(client, 0, answer.adapter, answer.ttl_ms)
            self.registry.put(renewed(blank, answer.registered))
            self.metrics.connection(answer.adapter, "cancel")
            return True
        finally:
            self.end_turns([client])

    def revoke(self, client: bytes) -> Flow[None]:
        """End a client's right now."""
        yield from self.take_turns([client, ONE_AT_A_TIME])
        try:
            closed = yield from self.close_settled([(client, 0)])
            try:
                yield from self.ask(lambda head: clients.revoke(self.meta, head, client))
            except NOT_DONE as error:
                if isinstance(error, errors.RegistrationRefused):
                    self.was_kept(client)  # nothing of it is left: the entry stays closed
                else:
                    self.restore(closed.values())
                raise
            except BaseException:
                self.was_kept(client)  # perhaps revoked: the entry stays closed
                raise
            self.was_kept(client)
            self.due_at(self.lease.clock_ms)
        finally:
            self.end_turns([client, ONE_AT_A_TIME])

    # -- touch, views ---------------------------------------------------------------------------------------------

    def touch(self, ids: Sequence[bytes]) -> Flow[list[errors.CoordinatorError | None]]:
        """Note that clients were seen."""
        known = {client: entry for client in ids if (entry := self.registry.get(client)) is not None}
        answers = yield from self.ask(lambda head: clients.touch(self.meta, head, ids))
        for client, error in zip(ids, answers, strict=True):
            if error is not None and client in known and self.registry.get(client) is known[client]:
                self.forget(known[client], error)
        return answers

    def view_clients(self, ids: Sequence[bytes]) -> Flow[list[ClientRegistration | None]]:
        """Read records, with this node's lock counts."""
        views = yield from self.ask(lambda head: clients.view(self.meta, head, ids))
        return [self._with_count(client, view) for client, view in zip(ids, views, strict=True)]

    def _with_count(self, client: bytes, view: ClientRegistration | None) -> ClientRegistration | None:
        entry = self.registry.get(client)
        if view is None or entry is None or entry.generation != view.generation:
            return view
        fields = {name: getattr(view, name) for name in ClientRegistration.__slots__}
        return ClientRegistration(**{**fields, "lock_count": entry.lock_count})

    def client_page(self, adapter: str, cursor: str) -> Flow[tuple[str, list[bytes]]]:
        """Read a page of an adapter's clients."""
        self.settings.limit_of(adapter)
        return self.ask(lambda head: clients.page(self.meta, head, adapter, cursor, BATCH_MAX))
