"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version


def describe(*packages: str) -> str:
    model = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8") as info:  # noqa: PTH123
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{model}, {os.cpu_count()} cores shared; Python {platform.python_version()}; {versions}"


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
