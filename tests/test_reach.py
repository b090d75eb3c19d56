"""Where the bridge is reached from its own machine."""

from __future__ import annotations

import pytest

from broadcast.cli.reach import bridge_url
from broadcast.settings import Settings


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:5001"),
        ("0.0.0.0", "http://127.0.0.1:5001"),
        ("::", "http://[::1]:5001"),
        ("::1", "http://[::1]:5001"),
        ("mind.local", "http://mind.local:5001"),
    ],
)
def test_a_bridge_is_reached_on_loopback_where_it_is_bound_to_everything(host: str, url: str) -> None:
    assert url == bridge_url(Settings(host=host))
