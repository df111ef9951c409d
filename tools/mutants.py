"""Make each deliberate break of breaks.toml in a copy of the project and see the named test fail.

`./run mutants [WORDS]`: only the breaks whose rule contains the words. Exits 1 if a break went unnoticed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_name("breaks.toml")
MODEL = "model"
SECONDS_MAX = 300
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "dist")
FAILED = 1
"""Exit status of pytest when tests ran and one of them failed."""


@dataclass(frozen=True)
class Break:
    """One change that must not go unnoticed."""

    rule: str
    file: str
    old: str
    new: str
    test: str
    """Name of a test, or the beginning of the names of several; `model`: tests/model."""


def breaks() -> list[Break]:
    """Return the list."""
    return [Break(**entry) for entry in tomllib.loads(LIST.read_text(encoding="utf-8"))["break"]]


def table() -> str:
    """Return the list as a table for docs/track-record.md."""
    rows = [f"| {broken.rule} | `{broken.file}` | `{broken.test}` |" for broken in breaks()]
    return "\n".join(["| rule broken | in | test that fails |", "| --- | --- | --- |", *rows])


def is_noticed(broken: Break) -> bool:
    """Make the break in a copy and tell whether its test fails there (on fakeredis)."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
        path = copy / broken.file
        path.write_text(path.read_text(encoding="utf-8").replace(broken.old, broken.new), encoding="utf-8")
        where, which = ("model", "") if broken.test == MODEL else ("", f"({broken.test}) and ")
        command = [sys.executable, "-m", "pytest", "-n0", "--full", "-x", f"tests/{where}", "-k", f"{which}not real"]
        try:
            run = subprocess.run(
                command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, capture_output=True, check=False,
                text=True, timeout=SECONDS_MAX,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"{broken.test} did not end within {SECONDS_MAX} s: {broken.rule}\n")
            return False
        if run.returncode not in {0, FAILED}:
            sys.stderr.write(run.stdout + run.stderr)
        return run.returncode == FAILED


def main(words: str) -> int:
    """Try the breaks, print a line each."""
    chosen = [broken for broken in breaks() if words in broken.rule]
    named = " or ".join(sorted({broken.test for broken in chosen} - {MODEL}))
    unbroken = [Break("", "README.md", "", "", test) for test in (named, MODEL) if test]
    unnoticed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if any(pool.map(is_noticed, unbroken)):
            sys.exit("the tests fail without any break: mend that first")
        for broken, noticed in zip(chosen, pool.map(is_noticed, chosen), strict=True):
            unnoticed += not noticed
            sys.stdout.write(f"{'noticed  ' if noticed else 'UNNOTICED'}  {broken.rule}  ({broken.test})\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - unnoticed} of {len(chosen)} breaks were noticed\n")
    return int(unnoticed > 0 or not chosen)


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
