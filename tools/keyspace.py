"""docs/keyspace.md: made of the headers of lua/, of what its code writes, and of coordinator/protocol/keys.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordinator.protocol import script
from coordinator.protocol.keys import DELETED_BY

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMON = 1
"""Arguments that every script has, of lua/include/begin.lua."""

_KEY = re.compile(r"^-- KEY (\w+)\s+(\w+)\s+(\S+)\s+(.+)$", re.MULTILINE)
_FIELD = re.compile(r"^-- FIELD (\w+)\s+(.+(?:\n--  {2,}\S.*)*)$", re.MULTILINE)
_FUNCTION = re.compile(r"^(?:local )?function ([\w.]+)\(.*?^end$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"redis\.call\('(\w+)'")
_LOCAL = re.compile(r"local ([\w, ]+?) =\s+(.+)")
_SPELLED = re.compile(r"KEYS\[1\]|prefix \.\. '(\w+)")

READS = {
    "EXISTS", "HEXISTS", "HGET", "HLEN", "HMGET", "HRANDFIELD", "HSCAN", "SCARD", "SISMEMBER", "SMEMBERS",
    "SMISMEMBER", "SRANDMEMBER", "SSCAN", "TIME", "XREVRANGE", "ZCARD", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE",
}  # fmt: skip
WRITES = {
    "DEL": 9, "HDEL": 1, "HINCRBY": 1, "HSET": 1, "HSETNX": 1, "PERSIST": 1, "PEXPIRE": 1, "SADD": 1, "SPOP": 1,
    "SREM": 1, "UNLINK": 9, "XADD": 1, "ZADD": 1, "ZREM": 1,
}  # fmt: skip
"""Commands that write, and how many of their first arguments are keys at the most."""
REMOVES = {"DEL": 9, "HDEL": 1, "PEXPIRE": 1, "SPOP": 1, "SREM": 1, "UNLINK": 9, "ZREM": 1}
"""Those of them that take a key or an entry away, at once or in time, and from how many of these keys."""


def reached(source: str) -> str:
    """Return the code of a flattened script without comments and without the functions that it never calls."""
    code = re.sub(r"--.*", "", source)
    functions = {found[1]: found[0] for found in _FUNCTION.finditer(code)}
    reached = _FUNCTION.sub("", code)
    while called := [name for name in functions if re.search(rf"(?<![\w.]){re.escape(name)}\(", reached)]:
        reached += "\n".join(functions.pop(name).replace(f"function {name}(", "") for name in called)
    return reached


def _arguments(code: str) -> list[str]:
    """Return the arguments that follow the name of a command, up to the parenthesis that closes its call."""
    parts, depth = [""], 0
    for char in code:
        depth += (char in "({") - (char in ")}")
        if depth < 0:
            break
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts[1:]]


def _spelled(text: str, variables: dict[str, set[str]]) -> set[str]:
    """Return the names of the keys that an expression may stand for."""
    found = {name or "meta" for name in _SPELLED.findall(text)}
    return found or variables.get(text, set())


def _keys_of(where: str, code: str, commands: dict[str, int]) -> set[str]:
    """Return the keys that these commands are given; raise ValueError for code that cannot be told."""
    variables: dict[str, set[str]] = {}
    for names, values in _LOCAL.findall(code):
        for name, value in zip(re.findall(r"\w+", names), _arguments("," + values), strict=False):
            if _SPELLED.search(value):
                variables.setdefault(name, set()).update(_spelled(value, {}))
    named = set()
    for call in _COMMAND.finditer(code):
        for argument in _arguments(code[call.end() :])[: commands.get(call[1], 0)]:
            keys = _spelled(argument, variables)
            if not keys:
                msg = f"{where}: which key is {argument} of {call[1]}?"
                raise ValueError(msg)
            named |= keys
    return named


def touched(name: str) -> set[str]:
    """Return the names of the keys that a script can read or write; raise ValueError for code that cannot be told."""
    code = reached(script.load(name).source)
    return _keys_of(name, code, {**dict.fromkeys(READS - {"TIME"}, 1), "EXISTS": 9, **WRITES})


def writes(name: str) -> list[str]:
    """Return the names of the keys that a script can write; raise ValueError for code that cannot be told."""
    code = reached(script.load(name).source)
    if odd := {call[1] for call in _COMMAND.finditer(code)} - READS - WRITES.keys():
        msg = f"{name}: does {', '.join(odd)} write?"
        raise ValueError(msg)
    written = _keys_of(name, code, WRITES)
    return [key for key, *_ in keys() if key in written]


def removed_in() -> dict[str, tuple[str, ...]]:
    """Return for each key the files of lua/ whose own code takes it or entries of it away."""
    found: dict[str, list[str]] = {}
    for path in sorted(script.lua_directory().rglob("*.lua"), key=lambda path: path.stem):
        code = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
        for key in _keys_of(path.stem, code, REMOVES):
            found.setdefault(key, []).append(path.stem)
    return {key: tuple(files) for key, files in found.items()}


def keys() -> list[tuple[str, str, str, str]]:
    """Return name, type, pattern and meaning of each key, fixed ones first."""
    return _KEY.findall((script.lua_directory() / "include" / "scope.lua").read_text(encoding="utf-8"))


def fields() -> list[tuple[str, str]]:
    """Return name and meaning of each field of a registration."""
    return _FIELD.findall((script.lua_directory() / "include" / "record.lua").read_text(encoding="utf-8"))


def _cell(text: str) -> str:
    return re.sub(r"\s+(?:--\s+)?", " ", text).replace("|", "\\|").replace("<", "&lt;")


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _arguments_table(arguments: Iterable[tuple[str, str, str, str]]) -> list[str]:
    rows = [f"| {at} `{name}` | {kind} | {_cell(meaning)} |" for at, name, kind, meaning in arguments]
    return ["| argument | type | meaning |", "| --- | --- | --- |", *rows, ""] if rows else []


def _script(one: script.Script) -> list[str]:
    return [
        f"### {one.name}",
        "",
        _cell(f"{one.purpose[0].upper()}{one.purpose[1:]}"),
        "",
        *_arguments_table(one.arguments[COMMON:]),
        f"* Answers {_code(one.statuses)}",
        f"* Returns {_cell(one.returns)}",
        f"* Retry: {_cell(one.retry)}",
        f"* Durable: {_cell(one.durable)}",
        f"* Cost: {_cell(one.cost)}",
        f"* Writes: {_code(writes(one.name)) or 'nothing'}",
        "",
    ]


def page() -> str:
    """Return the whole page."""
    scripts = [script.load(name) for name in script.names()]
    written = {one.name: writes(one.name) for one in scripts}
    by: dict[str, list[str]] = {}
    for name, _, pattern, _ in keys():
        by.setdefault(_code(one for one in written if name in written[one]), []).append(pattern)
    reply = (script.lua_directory() / "include" / "reply.lua").read_text(encoding="utf-8")
    lines = [
        "# Keys and scripts",
        "",
        "Made by `./run docs` from `lua/` and `coordinator/protocol/keys.py`: change those, not this page.",
        "",
        "## Keys",
        "",
        "All are `<namespace>:{<scope>}:<key>`, in one hash slot. Times are ms of the scope clock (`HGET meta clock`).",
        "| key | type | holds | what takes it or its entries away |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{pattern}` | {kind} | {_cell(holds)} | {_code(DELETED_BY.get(name, ())) or 'nothing'} |"
            for name, kind, pattern, holds in keys()
        ),
        "",
        "Written by:",
        "",
        *(f"* {_code(patterns)}: {names}" for names, patterns in by.items()),
        "",
        "The fields of a registration, `client:<id>`; what is absent is live, 0 or empty:",
        "",
        "| field | meaning |",
        "| --- | --- |",
        *(f"| `{name}` | {_cell(meaning)} |" for name, meaning in fields()),
        "",
        "## Scripts",
        "",
        "Every script is given one key, `meta`, builds the others from it, and has this argument before its own:",
        "",
        *_arguments_table(scripts[0].arguments[:COMMON]),
        f"It answers {' '.join(re.findall(r'^-- (?:Returns)? +(.+)$', reply, re.MULTILINE))},",
        "then what stands after Returns. Statuses stand in order of precedence.",
        "",
    ]
    return "\n".join([*lines, *(line for one in scripts for line in _script(one))])
