"""`make bench`: every part, or those that are named; `--json FILE` writes what was found for the documentation."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import append, archive, archive_reads, bridges, emit, exits, fanout, imports, latency, memory, parts
from benchmarks.figures import Table
from benchmarks.machine import QUIET_LOAD, facts
from broadcast.embedded import PrivateValkey

PARTS: dict[str, Callable[[str], Table | None]] = {
    "emit": emit.run,
    "latency": latency.run,
    "memory": memory.run,
    "exits": exits.run,
    "imports": imports.run,
    "append": append.run,
    "archive": archive.run,
    "fanout": fanout.run,
    "history": archive_reads.run,
    "parts": parts.run,
    "bridges": bridges.bridges_cost,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; none named: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine, versions, date and figures there")
    chosen = parser.parse_args(arguments)
    unknown = set(chosen.parts) - set(PARTS)
    if unknown:
        print(f"unknown part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if os.getloadavg()[0] > QUIET_LOAD:
        print(f"this machine is busy (load {os.getloadavg()[0]:.1f}): tails will be the machine's", file=sys.stderr)
    report: dict[str, Any] = {"machine": facts(), "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        valkey = PrivateValkey(Path(folder))
        valkey.start()
        try:
            for name in chosen.parts or PARTS:
                _run(name, valkey.url, report["parts"])
        finally:
            valkey.stop()
    if chosen.json is not None:
        report["machine"]["load_after"] = round(os.getloadavg()[0], 2)
        chosen.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return 0


def _run(name: str, redis_url: str, found: dict[str, Any]) -> None:
    began_s = time.monotonic()
    table = PARTS[name](redis_url)
    took_s = time.monotonic() - began_s
    if table is not None:
        print(f"{table.text()}\n  took {took_s:.0f} s\n", flush=True)
        found[name] = {**asdict(table), "took_s": round(took_s)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
