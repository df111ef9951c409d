"""Runs benchmarks (all, or those named), prints a table and JSON, and fails when a bound was missed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from benchmarks import (
    async_face,
    barrier,
    batches,
    client_cpu,
    deadlines,
    failover,
    hot_path,
    memory,
    moves,
    scripts,
    server_time,
)

if TYPE_CHECKING:
    from benchmarks.figure import Figure

BENCHMARKS = {
    "hot_path": hot_path.measure,
    "client_cpu": client_cpu.measure,
    "async_face": async_face.measure,
    "server_time": server_time.measure,
    "scripts": scripts.measure,
    "batches": batches.measure,
    "deadlines": deadlines.measure,
    "barrier": barrier.measure,
    "memory": memory.measure,
    "moves": moves.measure,
    "failover": failover.measure,
}


def main() -> int:
    """Measure; return 1 if a bound was missed."""
    parser = argparse.ArgumentParser(prog="./run bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all if none is named")
    parser.add_argument("--json", type=Path, help="write the figures to this file, not to the last line")
    options = parser.parse_args()
    if odd := set(options.names) - BENCHMARKS.keys():
        parser.error(f"no benchmark {', '.join(sorted(odd))}: there are {', '.join(BENCHMARKS)}")

    figures: dict[str, list[Figure]] = {}
    for name in options.names or BENCHMARKS:
        began = time.monotonic()
        figures[name] = list(BENCHMARKS[name]())
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
    Console(width=None if sys.stdout.isatty() else 140).print(_table(figures))

    text = json.dumps({name: [dataclasses.asdict(figure) for figure in found] for name, found in figures.items()})
    if options.json:
        options.json.write_text(f"{text}\n", encoding="utf-8")
    else:
        sys.stdout.write(f"{text}\n")
    missed = [figure for found in figures.values() for figure in found if figure.missed]
    for figure in missed:
        sys.stderr.write(f"missed: {figure.name}: {_number(figure.value)} {figure.unit}, promised {figure.most}\n")
    return int(bool(missed))


def _table(figures: dict[str, list[Figure]]) -> Table:
    table = Table("figure", "value", "bound", "detail")
    table.columns[1].justify = table.columns[2].justify = "right"
    for found in figures.values():
        for figure in found:
            bound = "" if figure.most is None else f"{'MISSED' if figure.missed else 'ok'} <= {figure.most:g}"
            detail = "  ".join(f"{key} {_number(value)}" for key, value in figure.detail.items())
            table.add_row(figure.name, f"{_number(figure.value)} {figure.unit}".strip(), bound, detail)
        table.add_section()
    return table


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


if __name__ == "__main__":
    sys.exit(main())
