"""The `broadcast` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; a missing extra and a known error end with one line, never a traceback."""
    try:
        from broadcast.cli.commands import run
    except ModuleNotFoundError as error:
        sys.stderr.write(f"broadcast: {error.name} is missing: pip install 'v5-broadcast[all]'\n")
        sys.exit(1)
    sys.exit(run())
