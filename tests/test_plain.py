"""The page without a script: the newest events, with everything escaped."""

from __future__ import annotations

from html.parser import HTMLParser

from broadcast.bridge.plain import plain_page
from broadcast.bridge.ring import RingEvent
from broadcast.log.entry import Entry
from broadcast.log.position import EntryId

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>\u202egnp\x1b[31m"
TAGS = {
    *("html", "head", "meta", "link", "title", "body", "h1", "p", "a"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "bdi"),
}


class Tags(HTMLParser):
    """Which elements a page has, and its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def event(event_type: str, **data: object) -> RingEvent:
    told = {"type": event_type, "ts": "2026-02-14T19:01:23.456Z", "cycle": 7, "day": 1, "data": data}
    return RingEvent(Entry(EntryId(1, 0), told, None, 1))


def test_whatever_an_event_holds_is_text_on_the_page() -> None:
    page = Tags(plain_page([event(HOSTILE, **{HOSTILE: HOSTILE}), event("decision", intention=HOSTILE)], state=HOSTILE))

    assert page.tags <= TAGS
    text = "".join(page.texts)
    assert "<script>alert(1)</script>" in text
    assert "\\u202egnp\\x1b[31m" in text
    assert "decision" in page.texts
    assert "7" in page.texts


def test_nothing_yet_is_said_in_words() -> None:
    page = Tags(plain_page([], state="The bridge reads the log."))

    assert "table" not in page.tags
    assert "No event yet" in "".join(page.texts)
