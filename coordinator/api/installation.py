"""What is done once per installation, by a person: mark a scope as new."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from coordinator import clock, errors
from coordinator.protocol import nodes
from coordinator.protocol.call import OPERATOR, Head
from coordinator.protocol.keys import Keys
from coordinator.settings import Settings
from coordinator.wire.blocking import Channel
from coordinator.wire.connector import Connector, from_url

if TYPE_CHECKING:
    import redis

ATTEMPTS = 3


def initialize(url_or_client: str | redis.Redis, *, scope: str = "default", namespace: str = "dittofs") -> None:
    """Mark a scope without data as a new installation: its first node begins normal.

    Without it a scope without data begins with a full grace period, since its data may have been lost. Do this once,
    before any node has joined; until then a repeat changes nothing. A client that is passed in is not closed.

    Raises ScopeExists if nodes have joined already, ContractBroken if the data are of another version, Unavailable if
    Redis cannot be reached. One round trip.
    """
    settings = Settings(namespace=namespace)
    keys = Keys(namespace, scope)
    client = from_url(url_or_client) if isinstance(url_or_client, str) else url_or_client
    channel = Channel(Connector(client, settings).checked(asynchronous=False), settings)
    dataset = secrets.token_hex(16)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            call = nodes.initialize(keys.meta, Head(OPERATOR, clock.now()), dataset)
            try:
                call.result(channel.run(call))
            except errors.OutcomeUnknown:
                if attempt == ATTEMPTS:
                    raise
            else:
                return
    finally:
        channel.close()
        if client is not url_or_client:
            client.close()
