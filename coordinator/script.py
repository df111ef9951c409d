"""Reads lua/, resolves includes and parses the header contracts into scripts. No Redis here."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from coordinator.errors import ContractBroken

_INCLUDE = re.compile(r"^--- @include (\w+)$", re.MULTILINE)
_SLOT = re.compile(r"^-- KEYS\[(\d+)\]\s+(\w+)\s+(hash|set|zset|stream)\s+(\S+)\s.+$", re.MULTILINE)
_ARGUMENT = re.compile(r"^-- ARGV\[(\d+|\.\.)\]\s+(\w+)\s+(str|int|bytes)\s+(.+)$", re.MULTILINE)
_FIELD = re.compile(r"^-- (Returns|Status|Retry|Durable|Cost)\s+(.+(?:\n--  {2,}\S.*)*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One atomic operation: its source, its address and its contract."""

    name: str
    source: str
    sha: str
    purpose: str
    statuses: tuple[str, ...]
    """Status words in order of precedence."""
    keys: tuple[tuple[str, str, str], ...]
    """Slot name, Redis type, key pattern, in the order of KEYS."""
    arguments: tuple[tuple[str, str, str, str], ...]
    """Position (or `..` for a repeated group), name, type, meaning, in the order of ARGV."""
    retry: str
    durable: str
    cost: str
    returns: str
    includes: tuple[str, ...]


def lua_directory() -> Path:
    """Return the folder of the scripts: a checkout's `lua/` first, then the packaged copy."""
    package = Path(__file__).parent
    for folder in (package.parent / "lua", package / "lua"):
        if (folder / "include" / "scope.lua").is_file():
            return folder
    msg = f"no lua/ folder beside or inside {package}: reinstall dittofs-coordinator"
    raise ContractBroken(msg)


def _resolve(folder: Path, text: str, seen: list[str]) -> None:
    for name in _INCLUDE.findall(text):
        if name not in seen:
            _resolve(folder, (folder / "include" / f"{name}.lua").read_text(encoding="utf-8"), seen)
            if name not in seen:
                seen.append(name)


def parse(name: str, folder: Path) -> Script:
    """Return the flattened script `name`; raise ContractBroken when its header is incomplete."""
    text = (folder / f"{name}.lua").read_text(encoding="utf-8")
    includes: list[str] = []
    _resolve(folder, text, includes)
    parts = [(folder / "include" / f"{part}.lua").read_text(encoding="utf-8") for part in includes]
    source = "\n".join([*parts, text])
    first = re.match(rf"-- {name}: (.+(?:\n-- (?!ARGV|Returns).+)*)", text)
    fields = {key: re.sub(r"\s*\n--\s*", " ", value) for key, value in _FIELD.findall(text)}
    missing = {"Returns", "Status", "Retry", "Durable", "Cost"} - fields.keys()
    if first is None or missing:
        msg = f"lua/{name}.lua: header lacks {', '.join(sorted(missing)) or 'its first line'}"
        raise ContractBroken(msg)
    return Script(
        name=name,
        source=source,
        sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
        purpose=re.sub(r"\s*\n--\s*", " ", first[1]),
        statuses=tuple(word.strip() for word in fields["Status"].split("|")),
        keys=tuple((slot, kind, pattern) for _, slot, kind, pattern in sorted(_SLOT.findall(source), key=_position)),
        arguments=tuple(_ARGUMENT.findall(source)),
        retry=fields["Retry"],
        durable=fields["Durable"],
        cost=fields["Cost"],
        returns=fields["Returns"],
        includes=tuple(includes),
    )


def _position(slot: tuple[str, str, str, str]) -> int:
    return int(slot[0])


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
