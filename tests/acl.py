"""The shipped ACL file, for tests: its rules, and a user with them on whatever server the tests use."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

FILE = Path(__file__).parents[1] / "deploy" / "redis" / "users.acl"
USER = "dittofs-coordinator"
PASSWORD = "of the tests"  # noqa: S105  (of servers that live as long as a test)
RUN = f"test-{secrets.token_hex(4)}"
"""This run's user; the namespaces of its tests begin with it and a dot."""


def complete(folder: Path) -> Path:
    """Return a copy of the file, with the password PASSWORD put in as deploy/redis/README.md says."""
    (folder / FILE.name).write_text(FILE.read_text())
    commands = FILE.with_name("README.md").read_text().split("```sh\n")[1].split("```")[0]
    subprocess.run(["/bin/sh", "-euc", commands], cwd=folder, env={**os.environ, "PASSWORD": PASSWORD}, check=True)
    return folder / "completed.acl"


def rules() -> list[str]:
    """Return the rules of the file's one user."""
    keyword, user, *rest = FILE.read_text().split()
    assert (keyword, user) == ("user", USER)
    return rest


def login(url: str, user: str, password: str) -> str:
    """Return the URL with another user."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{quote(password)}@{parts.netloc.rpartition('@')[2]}").geturl()


@contextlib.contextmanager
def as_shipped(admin: redis.Redis, url: str) -> Iterator[str]:
    """Give the URL of a user with the file's rules, for the namespaces of this run; afterwards it is gone.

    Nothing may have been refused to it meanwhile: what is refused on purpose is tried on servers for that.
    """
    password = secrets.token_hex(16)
    mine = [f"~{RUN}.*" if rule == "~dittofs:*" else rule for rule in rules()]
    assert f"~{RUN}.*" in mine
    admin.execute_command("ACL", "SETUSER", RUN, "reset", *mine, f">{password}")  # type: ignore[no-untyped-call]
    try:
        yield login(url, RUN, password)
        log: Any = admin.acl_log(count=128)
    finally:
        admin.acl_deluser(RUN)
    # A client of the tests' own says its library's name, which the file does not grant.
    assert [entry for entry in log if entry["username"] == RUN and "setinfo" not in entry["object"]] == []
