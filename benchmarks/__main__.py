"""`make bench`: every part, or those that are named."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import append, emit
from broadcast.embedded import PrivateValkey

PARTS = {"emit": emit.run, "append": append.run}


def main(names: list[str]) -> int:
    unknown = set(names) - set(PARTS)
    if unknown:
        print(f"unknown part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        valkey = PrivateValkey(Path(folder))
        valkey.start()
        try:
            for name in names or PARTS:
                PARTS[name](valkey.url)
        finally:
            valkey.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
