"""The newest events as a page without a script: for browsers without JavaScript, screen readers, and `curl`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

import orjson

from broadcast.bridge.ring import RingEvent
from broadcast.digest import digest, printable

__all__ = ["plain_page"]

TYPE_CHARS_MAX: Final = 80
_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="static/plain.css">
<title>broadcast: the newest events</title>
</head>
<body>
<h1>The newest events</h1>
"""
_TABLE: Final = """<table>
<caption>Newest first</caption>
<thead><tr><th scope="col">time (UTC)</th><th scope="col">type</th><th scope="col">what</th>\
<th scope="col">cycle</th></tr></thead>
<tbody>
"""
_EMPTY: Final = "<p>No event yet. The first one appears here when the page is loaded again.</p>\n"
_TAIL: Final = """<p><a href="plain">Load again</a> · <a href=".">The live page</a> · \
<a href="events">The events as they come, as text</a></p>
</body>
</html>
"""


def plain_page(events: Iterable[RingEvent], *, state: str) -> str:
    """The page's HTML; whatever an event holds is text in it.

    Args:
        events: newest first.
        state: what is to be said of the log, in words.
    """
    rows = "".join(map(_row, events))
    table = f"{_TABLE}{rows}</tbody>\n</table>\n" if rows else _EMPTY
    return f"{_HEAD}<p>{escape(state)}</p>\n{table}{_TAIL}"


def _row(event: RingEvent) -> str:
    delivered = orjson.loads(event.json)
    cycle = delivered.get("cycle") or ""
    cells = (event.ts, event.type[:TYPE_CHARS_MAX], digest(delivered), str(cycle))
    return "<tr>" + "".join(f"<td><bdi>{escape(printable(cell))}</bdi></td>" for cell in cells) + "</tr>\n"
