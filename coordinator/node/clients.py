"""Registrations: register, unregister, cancel, touch, revoke, views. No I/O."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator import errors
from coordinator.node.registry import Entry, Holding
from coordinator.protocol import call as base
from coordinator.protocol import clients, releases
from coordinator.settings import milliseconds, ttl_ms
from coordinator.values import (
    ClientRegistration,
    GraceState,
    Move,
    Unregistered,
    client_bytes,
    client_str,
    text_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

from coordinator.node.life import Core, Flow


class ClientFlows(Core):
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
            secrets.token_hex(8),
        )

    def register(
        self, items: Sequence[clients.Registering]
    ) -> Flow[list[ClientRegistration | errors.CoordinatorError]]:
        """Register clients here."""
        owner, life = self.lease.owner, self.memory.life
        answers = yield from self.ask(lambda head: clients.register(self.keys, head, items))
        if self.lease.owner != owner:
            raise errors.Fenced("evicted")
        results: list[ClientRegistration | errors.CoordinatorError] = []
        for item, answer in zip(items, answers, strict=True):
            if isinstance(answer, clients.Registered):
                results.append(self._registered(item, answer, life))
            else:
                self.metrics.connection(item.adapter, "refused")
                if isinstance(answer, errors.ConnectionLimitReached):
                    self.metrics.limit_hit()
                results.append(answer)
        return results

    def _registered(self, item: clients.Registering, answer: clients.Registered, life: int) -> ClientRegistration:
        taken = self._take(item.client, item.adapter, item.ttl_ms, answer, life)
        if taken is None:
            raise errors.Fenced("evicted")  # this node has joined anew since that was asked for
        if answer.copied and self.lease.snapshot.state is GraceState.ACTIVE:
            self.to_audit.append(taken)  # the owner it came from may have died meanwhile
            self.wake()
        self.metrics.connection(item.adapter, "connect")
        return ClientRegistration(
            client_id=client_str(item.client),
            adapter=item.adapter,
            ttl=item.ttl_ms / 1000,
            registered_at=answer.registered_ms / 1000,
            last_seen=self.lease.state.clock_ms / 1000,
            remote_addr=client_str(item.remote_addr),
            lock_count=taken.lock_count,
            holder=answer.holder,
            owner=self.lease.owner,
            generation=answer.generation,
            state="live",
        )

    def _take(self, client: bytes, adapter: str, ttl: int, answer: clients.Registered, life: int) -> Entry | None:
        """Take a registration as it was answered; return the newest one, None when another incarnation has begun."""
        kept = answer.holder and not answer.copied
        holding = Holding(answer.generation, holder=kept, lock_count=None if answer.holder else 0)
        entry = Entry(
            client,
            answer.generation,
            adapter,
            ttl,
            answer.previous,
            holding,
            answer.copied,
            answer.left,
            life=life,
        )
        return self.memory.put(entry, kept=kept)

    def unregister(self, pairs: Sequence[tuple[bytes, int]]) -> Flow[list[Unregistered | errors.CoordinatorError]]:
        """Disconnect clients: their entries close first."""
        closed = [self._close_named(client, generation) for client, generation in pairs]
        asked = self.now()
        with self.claiming(len(pairs), least=len(pairs)) as room:
            claim_ms = milliseconds(self.settings.claim_seconds) if room else 0
            try:
                answers = yield from self.ask(lambda head: clients.unregister(self.keys, head, pairs, claim_ms))
            except (errors.Refused, errors.Unavailable, errors.Closed):
                self._restore(closed)
                raise
            except BaseException:
                for (client, generation), entry in zip(pairs, closed, strict=True):
                    self._is_gone(client, generation, entry)  # perhaps; it is served again when it registers again
                raise
            return self._left(pairs, closed, answers, asked)

    def _left(
        self,
        pairs: Sequence[tuple[bytes, int]],
        closed: Sequence[Entry | None],
        answers: Sequence[clients.Leaving | errors.CoordinatorError],
        asked: float,
    ) -> list[Unregistered | errors.CoordinatorError]:
        """Take what was answered to disconnects that were asked for at a node time."""
        results: list[Unregistered | errors.CoordinatorError] = []
        claims: list[releases.Claim] = []
        for (client, _), entry, answer in zip(pairs, closed, answers, strict=True):
            if not isinstance(answer, clients.Leaving):
                results.append(answer)
                continue
            self._is_gone(client, answer.generation, entry)
            if answer.token:
                claims.append(releases.own(self.lease.owner, client, answer.generation, answer.adapter, answer.token))
            else:
                self.due_at(answer.due_ms)
            wait = max(0.0, (answer.due_ms - self.lease.state.clock_ms) / 1000)
            results.append(Unregistered(client_str(client), answer.generation, wait))
        if claims:
            self.on_claims(claims, asked)
        return results

    def _close_named(self, client: bytes, generation: int) -> Entry | None:
        """Close the entry that a disconnect is about; an older one stays: what is named may never have been here."""
        entry = self.memory.get(client)
        if generation and (entry is None or entry.generation != generation):
            return None
        return self.memory.close(client, generation)

    def _is_gone(self, client: bytes, generation: int, closed: Entry | None) -> None:
        """Count a disconnect, once; close what is older too: the reply to the registration that has ended was lost."""
        entry = (self.memory.close(client, generation) if generation else None) or closed
        if entry is not None:
            self.metrics.connection(entry.adapter, "disconnect")

    def _restore(self, closed: Iterable[Entry | None]) -> None:
        """Put entries back after what was certainly not executed, unless another life or registration has begun."""
        for entry in filter(None, closed):
            self.memory.restore(entry)

    def audit(self, batch: Sequence[Entry]) -> Flow[None]:
        """Ask for up to 200 clients of this node whether they are still here, and what they brought with them too."""
        ids = [entry.client for entry in batch]
        views = yield from self.ask(lambda head: clients.view(self.keys, head, ids))
        for entry, found in zip(batch, views, strict=True):
            view, expected = found or (None, False)
            if view is None or view.owner != self.lease.owner or view.state == "leaving":
                self.forget(entry.client, view.owner if view else "", entry.generation)
            elif expected and (entry.holder or entry.copied) and entry.told < self.lease.state.epoch:
                # It came with its right while that owner lived, so nobody has it reclaim: the server must.
                entry.told = self.lease.state.epoch
                self.on_move(Move(client_str(entry.client), self.lease.owner, "lost"))

    def cancel(self, client: bytes) -> Flow[bool]:
        """End a deferral as a reconnect here would; True also if that was done here before and nobody was told."""
        request, life = secrets.token_hex(8), self.memory.life
        answer = yield from self.ask(lambda head: clients.cancel(self.keys, head, client, request))
        if answer is None and self.memory.get(client) is not None:
            return False
        views = yield from self.ask(lambda head: clients.view(self.keys, head, [client]))
        view, _ = views[0] or (None, False)
        if answer is None:
            if view is None or view.state != "live" or view.owner != self.lease.owner:
                return False
            # Where it is a holder is not told: it is taken for none, so that its first lock is held anew.
            answer = clients.Registered(view.generation, "", 0, holder=view.holder, copied=view.holder, left=())
        if view is not None and view.generation == answer.generation:
            taken = self._take(client, view.adapter, milliseconds(view.ttl), answer, life)
            if taken is None:
                raise errors.Fenced("evicted")
            self.metrics.connection(view.adapter, "cancel")
        return True

    def touch(self, ids: Sequence[bytes]) -> Flow[list[errors.CoordinatorError | None]]:
        """Note that clients were seen."""
        known = {client: entry.generation for client in ids if (entry := self.memory.get(client)) is not None}
        answers = yield from self.ask(lambda head: clients.statuses("client_touch", self.keys, head, tuple(ids)))
        for client, error in zip(ids, answers, strict=True):
            entry = self.memory.get(client)
            if error is not None and entry is not None and entry.generation <= known.get(client, 0):
                self._lost_touch(entry, error)
        return answers

    def revoke(self, client: bytes) -> Flow[None]:
        """End a client's right now."""
        closed, request = self.memory.close(client), secrets.token_hex(8)
        try:
            yield from self.ask(lambda head: clients.revoke(self.keys, head, client, request))
        except errors.RegistrationRefused:
            raise  # nothing of it is left: the entry stays closed
        except (errors.Refused, errors.Unavailable, errors.Closed):
            self._restore([closed])
            raise
        self.due_at(self.lease.state.clock_ms)

    def view_clients(self, ids: Sequence[bytes]) -> Flow[list[ClientRegistration | None]]:
        """Read records, with this node's lock counts."""
        views = yield from self.ask(lambda head: clients.view(self.keys, head, ids))
        return [self._with_count(client, found and found[0]) for client, found in zip(ids, views, strict=True)]

    def _with_count(self, client: bytes, view: ClientRegistration | None) -> ClientRegistration | None:
        entry = self.memory.get(client)
        if view is None or entry is None or entry.generation != view.generation:
            return view
        fields = {name: getattr(view, name) for name in ClientRegistration.__slots__}
        return ClientRegistration(**{**fields, "lock_count": entry.lock_count})

    def client_page(self, adapter: str, cursor: str) -> Flow[tuple[str, list[bytes]]]:
        """Read a page of an adapter's clients."""
        self.settings.limit_of(adapter)
        return self.ask(lambda head: clients.page(self.keys, head, adapter, cursor, base.BATCH_MAX))

    def drop_moved(self) -> Flow[bool]:
        """Tell of up to 200 clients that went from here: copies of their rights go; tell whether there are more."""
        if batch := list(itertools.islice(list(self.to_drop.items()), base.BATCH_MAX)):
            args = tuple(value for pair in batch for value in pair)
            yield from self._drop_batch(args)
            for client, generation in batch:
                if self.to_drop.get(client) == generation:
                    del self.to_drop[client]
        return bool(self.to_drop)

    def _drop_batch(self, args: tuple[bytes | int, ...]) -> Flow[list[errors.CoordinatorError | None]]:
        return self.ask(lambda head: clients.statuses("client_drop", self.keys, head, args, closed=True))
