"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from benchmarks.figures import median
from broadcast.embedded import find_server

__all__ = ["describe", "facts", "median"]

PACKAGES = ("v5-broadcast", "orjson", "redis", "hiredis", "opentelemetry-sdk", "uvicorn", "uvloop", "websockets")
QUIET_LOAD = 0.7


def describe(*packages: str) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{processor()}, {os.cpu_count()} cores; Python {platform.python_version()}; {versions}".removesuffix("; ")


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def facts() -> dict[str, Any]:
    """What goes with the figures into a file."""
    server = subprocess.run([str(find_server()), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "server": " ".join(server.split()[:3]),
        "packages": {name: version(name) for name in PACKAGES},
        "load_before": round(os.getloadavg()[0], 2),
    }
