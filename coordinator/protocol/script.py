"""Reads lua/, resolves includes and parses the header contracts into scripts. No Redis here."""

from __future__ import annotations

import functools
import hashlib
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import ContractBroken

_INCLUDE = re.compile(r"^ *--- @include (\w+)$", re.MULTILINE)
_OUTER = re.compile(r"^--- @include (\w+)$", re.MULTILINE)
_INNER = re.compile(r"(?:^ +--- @include \w+\n)+", re.MULTILINE)
_ARGUMENT = re.compile(r"^-- ARGV\[(\d+|\.\.)\]\s+(\w+)\s+(str|int|bytes)\s+(.+)$", re.MULTILINE)
_FIELD = re.compile(r"^-- (Uses|Returns|Status|Retry|Durable|Cost)\s+(.+(?:\n--  {2,}\S.*)*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic operation: its source, its address and its contract."""

    name: str
    source: str
    sha: str
    purpose: str
    statuses: tuple[str, ...]
    """Status words in order of precedence."""
    uses: tuple[str, ...]
    """Patterns of the keys that it and its includes read or write: `meta`, `client:<id>`, ..."""
    arguments: tuple[tuple[str, str, str, str], ...]
    """Position (or `..` for a repeated group), name, type, meaning, in the order of ARGV."""
    retry: str
    durable: str
    cost: str
    returns: str
    includes: tuple[str, ...]
    words: dict[bytes, str]
    """The statuses by the bytes that Redis answers."""


def lua_directory() -> Path:
    """Return the folder of the scripts: a checkout's `lua/` first, then the packaged copy."""
    package = Path(__file__).parents[1]
    for folder in (package.parent / "lua", package / "lua"):
        if (folder / "include" / "scope.lua").is_file():
            return folder
    msg = f"no lua/ folder beside or inside {package}: reinstall dittofs-coordinator"
    raise ContractBroken(msg)


def _resolve(folder: Path, text: str, seen: list[str], found: dict[str, None]) -> list[str]:
    """Return the texts that `text` includes and that are not `seen` yet, in order; `found` notes all names.

    An include that is indented stands in the block that needs it, and its text is put there: Lua makes a function anew
    each time it comes to it, which the scripts that are called for every client must not pay for what they seldom need.
    """
    parts = []
    for name in _OUTER.findall(text):
        if name not in seen:
            found[name] = None
            included = (folder / "include" / f"{name}.lua").read_text(encoding="utf-8")
            parts += _resolve(folder, included, seen, found)
            if name not in seen:
                seen.append(name)
                parts.append(_filled(folder, included, seen, found))
    return parts


def _filled(folder: Path, text: str, seen: list[str], found: dict[str, None]) -> str:
    """Return `text` with what its indented includes bring beyond what was `seen` before it, in their places."""

    def fill(run: re.Match[str]) -> str:
        indent = " " * (len(run[0]) - len(run[0].lstrip(" ")))
        outer = re.sub("^ +", "", run[0], flags=re.MULTILINE)
        return "".join(textwrap.indent(part, indent) for part in _resolve(folder, outer, list(seen), found))

    return _INNER.sub(fill, text)


def parse(name: str, folder: Path) -> Script:
    """Return the flattened script `name`; raise ContractBroken when its header is incomplete."""
    text = (folder / f"{name}.lua").read_text(encoding="utf-8")
    outer: list[str] = []
    found: dict[str, None] = {}
    parts = _resolve(folder, text, outer, found)
    source = "\n".join([*parts, _filled(folder, text, outer, found)])
    first = re.match(rf"-- {name}: (.+(?:\n-- (?!KEYS|Uses|ARGV|Returns).+)*)", text)
    fields = {key: re.sub(r"\s*\n--\s*", " ", value) for key, value in _FIELD.findall(text)}
    missing = {"Uses", "Returns", "Status", "Retry", "Durable", "Cost"} - fields.keys()
    if first is None or missing:
        msg = f"lua/{name}.lua: header lacks {', '.join(sorted(missing)) or 'its first line'}"
        raise ContractBroken(msg)
    statuses = tuple(word.strip() for word in fields["Status"].split("|"))
    return Script(
        name=name,
        source=source,
        sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
        purpose=re.sub(r"\s*\n--\s*", " ", first[1]),
        statuses=statuses,
        uses=tuple(fields["Uses"].split()),
        arguments=tuple(_ARGUMENT.findall(source)),
        retry=fields["Retry"],
        durable=fields["Durable"],
        cost=fields["Cost"],
        returns=fields["Returns"],
        includes=tuple(found),
        words={status.encode(): status for status in statuses},
    )


def names() -> tuple[str, ...]:
    """Return the names of all scripts, sorted."""
    return tuple(sorted(path.stem for path in lua_directory().glob("*.lua")))


@functools.cache
def load(name: str) -> Script:
    """Return the script `name`, read once per process."""
    return parse(name, lua_directory())


def dump(folder: str | Path) -> None:
    """Write every flattened script into `folder`."""
    for name in names():
        (Path(folder) / f"{name}.lua").write_text(load(name).source, encoding="utf-8")
