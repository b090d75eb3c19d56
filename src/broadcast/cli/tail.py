"""`broadcast tail`: one line an event, for eyes or for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import orjson
from rich.console import Console
from rich.text import Text

from broadcast.digest import digest, printable
from broadcast.event import Event
from broadcast.log.listen import Listener
from broadcast.log.stream import LinkDown, LinkUp
from broadcast.search import parse_search

__all__ = ["event_line", "is_sought", "tail"]

_COLOURS: Final = {
    "broadcast": "bold magenta",
    "context": "green",
    "critic": "yellow",
    "cycle": "dim",
    "daemon": "bold",
    "decision": "bold cyan",
    "error": "bold red",
    "execute": "cyan",
    "observe": "blue",
    "render": "cyan",
    "sense": "default",
    "state": "magenta",
    "wave": "blue",
    "window": "blue",
}


async def tail(types: str | None, since: str | None, *, sought: str, as_json: bool, redis_url: str | None) -> None:
    """Print events until cancelled.

    Args:
        types: the filter, None for all.
        since: where to begin, None for now.
        sought: what of these is shown, in the terms of the page's filter box; empty for all.
        as_json: the delivered form, a line each; else digests.
        redis_url: where Redis listens, None reads the environment.

    Raises:
        FilterError: a term, or a type pattern, is none.
        PositionError: `since` is no place.
    """
    matches = parse_search(sought)
    console = Console(highlight=False, soft_wrap=True)
    listener = Listener(types, since, redis_url=redis_url, name="tail", on_link=_note_link)
    async with aclosing(listener.events()) as events:
        async for event in events:
            if not is_sought(event, matches):
                continue
            if as_json:
                sys.stdout.write(orjson.dumps(event).decode() + "\n")
                sys.stdout.flush()
            else:
                console.print(event_line(event, width=console.width), overflow="ellipsis", no_wrap=True)


def is_sought(event: Event, matches: Callable[[Event], bool]) -> bool:
    """Whether an event is shown; what tells of events that are missing always is."""
    return matches(event) or (event["type"] == "broadcast.gap" and "id" not in event)


def event_line(event: Event, *, width: int = 160) -> Text:
    """The digest of an event, coloured; what could steer a terminal is shown, not obeyed."""
    kind = str(event["type"])
    colour = _COLOURS.get(kind.partition(".")[0], "default")
    line = Text()
    line.append(f"{printable(str(event['ts']))[11:23]} ", style="dim")
    line.append(f"{printable(kind):<16} ", style=colour)
    line.append(printable(digest(event)), style="red" if kind == "error" else "")
    line.truncate(max(40, width), overflow="ellipsis")
    return line


def _note_link(link: LinkUp | LinkDown) -> None:
    if isinstance(link, LinkDown):
        sys.stderr.write(f"broadcast: {link.tier} cannot be read ({link.error}); waiting\n")
