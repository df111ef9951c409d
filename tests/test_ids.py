"""Ids that must survive every road, shared by tests."""

from __future__ import annotations

from coordinator.values import client_bytes, client_str

IDS = [b"a b", b"a/b:c|d", b"{x}", b"}{", b"line\nline", b"nul\x00nul", b"\xff\xfe\x80", b"*", b"%s %d", b"z" * 1024]


def test_27_ids_are_lossless() -> None:
    """Out as str and in again gives the same bytes."""
    for raw in IDS:
        assert client_bytes(client_str(raw)) == raw
