"""Make the figures and the plots of `docs/performance.md` anew from `docs/performance.json`.

.venv/bin/python -m benchmarks fanout parts bridges --json docs/performance.json
.venv/bin/python scripts/draw_performance.py
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REPORT = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 70, 170, 40, 50
COLOURS = {"broadcast": "#0b7285", "Node socket.io": "#e8590c", "NATS": "#5f3dc4", "python-socketio": "#868e96"}

Series = Mapping[str, Sequence[tuple[float, float]]]


def drawn(title: str, series: Series, *, x_title: str, y_title: str, ticks: Mapping[float, str] | None = None) -> str:
    """A line for each series, both axes logarithmic unless `ticks` names the places of the first."""
    points = [point for line in series.values() for point in line]
    x_axis = _Axis([x for x, _ in points], LEFT, WIDTH - RIGHT, is_log=ticks is None)
    y_axis = _Axis([y for _, y in points], HEIGHT - BOTTOM, TOP, is_log=True)
    parts = [_text(LEFT, 22, title, size=15, weight="600")]
    parts += [_grid_line(y_axis.at(y), _shown(y)) for y in y_axis.ticks()]
    for x, label in (ticks or {x: _shown(x) for x in x_axis.ticks()}).items():
        parts.append(_text(x_axis.at(x), HEIGHT - BOTTOM + 18, label, anchor="middle"))
    for row, (name, line) in enumerate(series.items()):
        parts += _line(name, [(x_axis.at(x), y_axis.at(y)) for x, y in line], row)
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_title, anchor="middle"))
    parts.append(f'<g transform="rotate(-90 16 {HEIGHT / 2})">{_text(16, HEIGHT / 2, y_title, anchor="middle")}</g>')
    style = "text{font:12px system-ui,sans-serif;fill:#343a40}@media(prefers-color-scheme:dark){text{fill:#dee2e6}}"
    body = "\n".join(parts)
    view = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {view}>\n<style>{style}</style>\n{body}\n</svg>\n'


class _Axis:
    def __init__(self, values: Sequence[float], start: float, end: float, *, is_log: bool) -> None:
        self._map = math.log10 if is_log else float
        self._low, self._high = min(values), max(values)
        if is_log:
            self._low, self._high = 10 ** math.floor(math.log10(self._low)), 10 ** math.ceil(math.log10(self._high))
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        low, high = self._map(self._low), self._map(self._high)
        share = (self._map(value) - low) / (high - low) if high > low else 0.5
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[float]:
        low, high = round(math.log10(self._low)), round(math.log10(self._high))
        return [10.0**power for power in range(low, high + 1)]


def _line(name: str, points: Sequence[tuple[float, float]], row: int) -> list[str]:
    colour = COLOURS.get(name, "#495057")
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
    key_y = TOP + 12 + row * 20
    key = f'<rect x="{WIDTH - RIGHT + 20}" y="{key_y - 9}" width="12" height="12" fill="{colour}"/>'
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return [line, *dots, key, _text(WIDTH - RIGHT + 38, key_y + 2, name)]


def _grid_line(y: float, label: str) -> str:
    line = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#adb5bd" stroke-opacity=".5"/>'
    return line + _text(LEFT - 8, y + 4, label, anchor="end")


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, weight: str = "400") -> str:
    style = f'text-anchor="{anchor}" style="font-size:{size}px;font-weight:{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def plots(data: dict[str, Any]) -> dict[str, str]:
    """The plots by the names of their files."""
    runs: list[dict[str, Any]] = data["runs"]
    made = {"cpu.svg": _cpu(runs), "memory.svg": _memory(data["memory"])}
    compared = list(dict.fromkeys(_load(run) for run in runs if run["server"] != "broadcast"))
    for number, load in enumerate(compared, 1):
        made[f"delay-{number}.svg"] = _delays(load, [run for run in runs if _load(run) == load])
    return made


def _load(run: dict[str, Any]) -> tuple[int, float]:
    return run["load"]["clients"], run["load"]["rate"]


def _cpu(runs: list[dict[str, Any]]) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for run in sorted(runs, key=lambda run: math.prod(_load(run))):
        series.setdefault(run["server"], []).append((math.prod(_load(run)), run["cpu_us"]))
    return drawn("CPU per delivery", series, x_title="clients × events/s", y_title="µs of the server's CPU")


def _delays(load: tuple[int, float], runs: list[dict[str, Any]]) -> str:
    shares = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
    series: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        delays = {float(share): value for share, value in run["percentiles_ms"].items()}
        series[run["server"]] = [(place, max(0.01, delays[share])) for place, share in enumerate(shares)]
    ticks = {float(place): f"p{share:g}" for place, share in enumerate(shares)}
    title = f"Delay from emit to viewer: {load[0]:,} viewers × {load[1]:g} events/s"
    return drawn(title, series, x_title="share of the deliveries", y_title="ms", ticks=ticks)


def _memory(sizes: dict[str, dict[str, float]]) -> str:
    series = {
        name: [(float(count), max(0.01, size / 1e6)) for count, size in each.items()] for name, each in sizes.items()
    }
    return drawn("Memory of idle viewers", series, x_title="viewers", y_title="MB resident, above none")


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT))  # for the parts, which are no package that is installed
    from scripts.fill_in_benchmarks import page

    report = json.loads(REPORT.read_text("utf-8"))
    made = {DOCS / "plots" / name: svg for name, svg in plots(report["parts"]["fanout"]["data"]).items()}
    made[PAGE] = page(PAGE.read_text("utf-8"), report)
    if arguments == ["--check"]:
        return int(any(not path.exists() or path.read_text("utf-8") != text for path, text in made.items()))
    (DOCS / "plots").mkdir(exist_ok=True)
    for path, text in made.items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
