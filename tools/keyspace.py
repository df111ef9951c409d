"""docs/keyspace.md: made of the headers of lua/, of what its code writes, and of coordinator/protocol/keys.py."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from coordinator.protocol import script
from coordinator.protocol.keys import DELETED_BY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMON = 1
"""Arguments that every script has, of lua/include/begin.lua."""

_KEY = re.compile(r"^-- KEY (\w+)\s+(\w+)\s+(\S+)\s+(.+)$", re.MULTILINE)
_FIELD = re.compile(r"^-- FIELD (\w+) (\w+)\s+(.+(?:\n--  {2,}\S.*)*)$", re.MULTILINE)
_FUNCTION = re.compile(r"^(?:local )?function ([\w.]+)\(.*?^end$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"redis\.call\('(\w+)'")
_LOCAL = re.compile(r"local ([\w, ]+?) =\s+(.+)")
_SPELLED = re.compile(r"KEYS\[1\]|\bprefix \.\. '(\w+)")
_WHOLE = re.compile(r"\bprefix \.\. '\w+(?:'|:' \.\. )")
"""A key as scope.lua says that it is written."""

READS = {
    "EXISTS": 9, "HEXISTS": 1, "HGET": 1, "HLEN": 1, "HMGET": 1, "HRANDFIELD": 1, "HSCAN": 1, "SCARD": 1,
    "SISMEMBER": 1, "SMEMBERS": 1, "SMISMEMBER": 1, "SRANDMEMBER": 1, "SSCAN": 1, "TIME": 0, "XREVRANGE": 1, "ZCARD": 1,
    "ZRANGE": 1, "ZRANGEBYSCORE": 1, "ZSCORE": 1,
}  # fmt: skip
"""Commands that only read, and how many of their first arguments are keys at the most."""
WRITES = {
    "DEL": 9, "HDEL": 1, "HINCRBY": 1, "HSET": 1, "HSETNX": 1, "PERSIST": 1, "PEXPIRE": 1, "SADD": 1, "SPOP": 1,
    "SREM": 1, "UNLINK": 9, "XADD": 1, "ZADD": 1, "ZREM": 1,
}  # fmt: skip
"""Commands that write, likewise."""
REMOVES = {"DEL": 9, "HDEL": 1, "PEXPIRE": 1, "SPOP": 1, "SREM": 1, "UNLINK": 9, "ZREM": 1}
"""Those of them that take a key or an entry away, at once or in time, and from how many of these keys."""
_HEAD = ["| field | holds |", "| --- | --- |"]
_ABOUT = {
    "client": [
        "A letter each: there is a record per client. An absent state is `live`, another absent field 0 or empty. The",
        "record has a TTL while its disconnect waits (`deferred`); one that is `leaving` may have kept it.",
        "",
    ],
}
FIELDS_AT = {
    "HGET": (1, 0), "HEXISTS": (1, 0), "HSETNX": (1, 0), "HINCRBY": (1, 0), "HMGET": (0, 1), "HDEL": (0, 1),
    "HSET": (0, 2),
}  # fmt: skip
"""Where a command on a hash names fields: its first arguments, or each, or each second one."""


def chunks(source: str) -> list[str]:
    """Return the code of a flattened script without comments: what runs by itself, then each function that it reaches.

    A top-level function ends with the first line that is `end`; what it is called with, and its name, are left out.
    """
    code = re.sub(r"--.*", "", source)
    functions = {found[1]: found[0] for found in _FUNCTION.finditer(code)}
    found = [_FUNCTION.sub("", code)]
    while called := [name for name in functions if any(re.search(rf"(?<![\w.]){re.escape(name)}\(", c) for c in found)]:
        found += [functions.pop(name).replace(f"function {name}(", "(") for name in called]
    return found


def reached(source: str) -> str:
    """Return the code of a flattened script without comments and without the functions that it never calls."""
    return "\n".join(chunks(source))


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


def _spelled(text: str) -> set[str]:
    """Return the names of the keys that an expression spells."""
    return {name or "meta" for name in _SPELLED.findall(text)}


def _variables(code: str) -> dict[str, set[str]]:
    """Return the local variables of a chunk, with the keys that each may stand for, none if it is no key."""
    variables: dict[str, set[str]] = {}
    for names, values in _LOCAL.findall(code):
        for name, value in zip_longest(re.findall(r"\w+", names), _arguments("," + values), fillvalue=""):
            variables.setdefault(name, set()).update(_spelled("" if "redis.call" in value else value))
    return variables


def _commands(where: str, code: list[str], keys_at: dict[str, int]) -> Iterator[tuple[str, set[str], list[str]]]:
    """Iterate over these commands: the command, the keys that it is given, what follows them.

    `code` is chunks; a variable of the first one is known in all. Raises ValueError for code that cannot be told.
    """
    everywhere = _variables(code[0])
    for chunk in code:
        variables = {**everywhere, **_variables(chunk)}
        for call in _COMMAND.finditer(chunk):
            arguments, most = _arguments(chunk[call.end() :]), keys_at.get(call[1], 0)
            named: set[str] = set()
            for argument in arguments[:most]:
                keys = _spelled(argument) or variables.get(argument)
                if not keys:
                    msg = f"{where}: which key is {argument} of {call[1]}?"
                    raise ValueError(msg)
                named |= keys
            yield call[1], named, arguments[most:]


def _keys_of(where: str, code: list[str], commands: dict[str, int]) -> set[str]:
    """Return the keys that these commands are given."""
    return {key for _, keys, _ in _commands(where, code, commands) for key in keys}


def fields_named(key: str) -> set[str]:
    """Return the fields that the scripts name of a hash, `...` among them if some field is computed."""
    found: set[str] = set()
    constants = constant_fields()
    for name in script.names():
        for command, named, rest in _commands(name, chunks(script.load(name).source), {**READS, **WRITES}):
            if key in named and command in FIELDS_AT:
                first, step = FIELDS_AT[command]
                given = rest[:first] if step == 0 else rest[::step]
                words = (constants.get(word, word) for word in given)
                found |= {word[1:-1] if re.fullmatch(r"'\w+'", word) else "..." for word in words}
    return found


def constant_fields() -> dict[str, str]:
    """Return the names that record.lua gives to fields, with what they stand for, in quotes."""
    text = (script.lua_directory() / "include" / "record.lua").read_text(encoding="utf-8")
    lines = re.findall(r"^local ([A-Z, ]+) = (.+)$", text, re.MULTILINE)
    return {
        name: value
        for names, values in lines
        for name, value in zip(names.split(", "), values.split(", "), strict=True)
    }


def touched(name: str) -> set[str]:
    """Return the names of the keys that a script can read or write; raise ValueError for code that cannot be told."""
    code = chunks(script.load(name).source)
    everything = "\n".join(code)
    found, spelled = _keys_of(name, code, {**READS, **WRITES}), _spelled(everything)
    if found != spelled or len(re.findall(r"\bprefix\b", everything)) != len(_WHOLE.findall(everything)) + 1:
        msg = f"{name}: the keys {', '.join(sorted(found ^ spelled)) or 'that `prefix` begins'} cannot be told"
        raise ValueError(msg)
    return found


def writes(name: str) -> list[str]:
    """Return the names of the keys that a script can write; raise ValueError for code that cannot be told."""
    code = chunks(script.load(name).source)
    if odd := {call[1] for chunk in code for call in _COMMAND.finditer(chunk)} - READS.keys() - WRITES.keys():
        msg = f"{name}: does {', '.join(odd)} write?"
        raise ValueError(msg)
    written = _keys_of(name, code, WRITES)
    return [key for key, *_ in keys() if key in written]


def removed_in() -> dict[str, tuple[str, ...]]:
    """Return for each key the files of lua/ whose own code takes it or entries of it away."""
    found: dict[str, list[str]] = {}
    for path in sorted(script.lua_directory().rglob("*.lua"), key=lambda path: path.stem):
        code = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
        functions = [function[0] for function in _FUNCTION.finditer(code)]
        for key in _keys_of(path.stem, [_FUNCTION.sub("", code), *functions], REMOVES):
            found.setdefault(key, []).append(path.stem)
    return {key: tuple(files) for key, files in found.items()}


def keys() -> list[tuple[str, str, str, str]]:
    """Return name, type, pattern and meaning of each key, fixed ones first."""
    return _KEY.findall((script.lua_directory() / "include" / "scope.lua").read_text(encoding="utf-8"))


def fields(key: str) -> list[tuple[str, str]]:
    """Return name and meaning of each field of a hash, as the includes list them."""
    texts = [path.read_text(encoding="utf-8") for path in (script.lua_directory() / "include").glob("*.lua")]
    return [(name, meaning) for text in texts for of, name, meaning in _FIELD.findall(text) if of == key]


def _cell(text: str) -> str:
    return re.sub(r"\s+(?:--\s+)?", " ", text).replace("|", "\\|").replace("<", "&lt;")


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _arguments_table(arguments: Iterable[tuple[str, str, str, str]]) -> list[str]:
    rows = [f"| {at} `{name}` | {kind} | {_cell(meaning)} |" for at, name, kind, meaning in arguments]
    return ["| argument | type | meaning |", "| --- | --- | --- |", *rows, ""] if rows else []


def _fields(key: str, pattern: str) -> list[str]:
    rows = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in fields(key)]
    return (
        [f"### Fields of {pattern.replace('<', '&lt;')}", "", *_ABOUT.get(key, []), *_HEAD, *rows, ""] if rows else []
    )


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
        f"* Reads or writes {_code(one.uses)}",
        f"* Writes {_code(pattern for name, _, pattern, _ in keys() if name in writes(one.name)) or 'nothing'}",
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
        "What is taken away by nothing stays when all clients and nodes have gone.",
        "",
        "| key | type | holds | what takes it or its entries away |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{pattern}` | {kind} | {_cell(holds)} | {_code(DELETED_BY.get(name, ())) or 'nothing'} |"
            for name, kind, pattern, holds in keys()
        ),
        "",
        "Which scripts write them:",
        "",
        *(f"* {_code(patterns)}: {names}" for names, patterns in by.items()),
        "",
        *(line for key, _, pattern, _ in keys() for line in _fields(key, pattern)),
        "## Scripts",
        "",
        "Every script is given one key, `meta`, builds the others from it, and has this argument before its own:",
        "",
        *_arguments_table(scripts[0].arguments[:COMMON]),
        f"It answers {' '.join(re.findall(r'^-- (?:Returns)? +(.+)$', reply, re.MULTILINE))}, then what stands after",
        "Returns below. Statuses stand in order of precedence: those of the whole call and those of each item.",
        "",
    ]
    return "\n".join([*lines, *(line for one in scripts for line in _script(one))])
