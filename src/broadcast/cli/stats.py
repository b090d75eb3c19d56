"""`broadcast stats`: what an archive tells of a life as a whole."""

from __future__ import annotations

import sys
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broadcast.digest import printable
from broadcast.errors import PositionError
from broadcast.log.archive import Archive
from broadcast.log.position import parse_since
from broadcast.log.statistics import Statistics, read_statistics
from broadcast.settings import Settings

__all__ = ["stats"]

DAYS_SHOWN: Final = 31
BAR_CHARS: Final = 24
LABEL_CHARS: Final = 32
"""The number of events behind it, its share and the bar are to fit in a line, too."""
LONG: Final = ("source", "message", "type")
WIDTHS: Final = {"when (UTC)": 19, "began (UTC)": 19}
WIDTH: Final = 80
"""In a pipe, where there is no terminal to be as wide as."""


async def stats(settings: Settings, *, since: str | None, until: str | None, as_json: bool) -> None:
    """Print the statistics of a range of times.

    Args:
        settings: where the archive is.
        since: a time, or a duration ago; None for the beginning.
        until: likewise; None for the end.
        as_json: one JSON object instead of tables.

    Raises:
        PositionError: a time is none.
        SettingError: it is the archive of another stream.
        UnreachableError: PostgreSQL does not answer, or refuses.
    """
    ts_from, ts_to = _moment(since, "since"), _moment(until, "until")
    async with aclosing(Archive(settings.database_url, name="stats")) as archive:
        found = await read_statistics(archive, settings.stream, ts_from=ts_from, ts_to=ts_to)
    if as_json:
        sys.stdout.write(_json(found) + "\n")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    if found is None or not found.events:
        console.print("nothing was archived" + (" in that time" if since or until else " yet"))
        return
    _show(console, found)


def _moment(text: str | None, name: str) -> str | None:
    if text is None:
        return None
    since = parse_since(text, now=datetime.now(UTC))
    if since.ts is None:
        raise PositionError(f"{name}: expected a time ('2026-02-14T19:00:00Z') or a duration ago ('7d'), got {text!r}")
    return since.ts


def _json(found: Statistics | None) -> str:
    if found is None:
        return "null"
    listed = asdict(found)
    for name, key in (("types", "type"), ("days", "day")):
        listed[name] = [{key: each, "events": events} for each, events in listed[name]]
    return orjson.dumps(listed).decode()


def _show(console: Console, found: Statistics) -> None:
    console.print(f"{found.events:,} events, {found.cycles:,} cycles, {found.errors:,} errors")
    console.print(_of_cycles(found) + "\n")
    console.print(_counted("type", found.types, found.events))
    days = found.days[-DAYS_SHOWN:]
    older = len(found.days) - len(days)
    console.print(_counted(f"day (UTC{f', {older} before these' if older else ''})", days, found.events))
    if found.mind_days:
        console.print(_mind_days(found))
    if found.slowest:
        console.print(_slowest(found))
    if found.failures:
        console.print(_failures(found))


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        is_number = column.endswith("#")
        table.add_column(
            column.rstrip("#"),
            justify="right" if is_number else "left",
            overflow="ellipsis",
            no_wrap=True,
            header_style="dim",
            # Only what people wrote gives way where a line is too long.
            min_width=None if column in LONG else max(len(column.rstrip("#")), WIDTHS.get(column, 0)),
        )
    return table


def _with_whole_numbers(table: Table) -> Table:
    """A number that is cut is a wrong number: its column is as wide as the longest one."""
    for column in table.columns:
        if column.justify == "right":
            column.min_width = max(column.min_width or 0, *(len(str(cell)) for cell in column.cells))
    return table


def _cut(label: str) -> str:
    return label if len(label) <= LABEL_CHARS else label[: LABEL_CHARS - 1] + "…"


def _duration(ms: float) -> str:
    return f"{ms:,.1f} ms" if ms < 1000 else f"{ms / 1000:,.2f} s"


def _of_cycles(found: Statistics) -> str:
    if found.events_per_cycle is None:
        return "no cycle has begun"
    told = f"{found.events_per_cycle:,.1f} events a cycle on the average"
    if found.median_ms is None:
        return told
    return f"{told}; {found.ended:,} cycles ended, the median after {_duration(found.median_ms)}"


def _counted(name: str, rows: tuple[tuple[str, int], ...], total: int) -> Table:
    table = _table(name, "events#", "share#", "")
    most = max((events for _, events in rows), default=1)
    for label, events in rows:
        bar = "▇" * max(1, round(BAR_CHARS * events / most))
        table.add_row(_cut(printable(label)), f"{events:,}", f"{events / total:.1%}", Text(bar, style="cyan"))
    table.add_row("", "", "", "")
    return _with_whole_numbers(table)


def _mind_days(found: Statistics) -> Table:
    days = found.mind_days[-DAYS_SHOWN:]
    table = _table("day#", "events#", "cycles#", "errors#", title="The mind's own days")
    for each in days:
        table.add_row(f"{each.day}", f"{each.events:,}", f"{each.cycles:,}", f"{each.errors or ''}")
    table.add_row("", "", "", "")
    return _with_whole_numbers(table)


def _slowest(found: Statistics) -> Table:
    table = _table("cycle#", "took#", "errors#", "began (UTC)", "id of its cycle.start", title="The slowest cycles")
    for each in found.slowest:
        number = "" if each.cycle is None else f"{each.cycle}"
        table.add_row(
            number,
            _duration(each.duration_ms),
            f"{each.errors or ''}",
            each.ts[:19].replace("T", " "),
            each.id,
        )
    table.add_row("", "", "", "", "")
    return _with_whole_numbers(table)


def _failures(found: Statistics) -> Table:
    table = _table("when (UTC)", "cycle#", "source", "message", title=f"The newest of {found.errors:,} errors")
    for each in found.failures:
        number = "" if each.cycle is None else f"{each.cycle}"
        when = each.ts[:19].replace("T", " ")
        table.add_row(when, number, Text(printable(each.source)), Text(printable(each.message), style="red"))
    return _with_whole_numbers(table)
