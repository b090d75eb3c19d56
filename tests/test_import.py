"""What `import broadcast` brings along, and what it offers."""

from __future__ import annotations

import subprocess
import sys

import broadcast

PUBLIC = ["Broadcaster", "cycle", "emit", "flush", "get_broadcaster", "listen", "set_cycle", "stats"]
HEAVY = [
    "redis",
    "asyncio",
    "ssl",
    "socket",
    "multiprocessing",
    "starlette",
    "uvicorn",
    "websockets",
    "typer",
]


def output_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def test_importing_loads_neither_redis_nor_asyncio_nor_a_server() -> None:
    code = f"import sys, broadcast; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert output_of(code) == "[]\n"


def test_emitting_loads_redis_in_the_senders_thread_alone() -> None:
    code = """
import sys, threading, _thread
import broadcast
from broadcast.emitter import connection
importers = []
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "redis":
            importers.append(_thread.get_ident())
sys.meta_path.insert(0, Finder())
broadcast.Broadcaster("redis://127.0.0.1:1").emit("x")
broadcast.Broadcaster("redis://127.0.0.1:1").emit("x")
broadcast.get_broadcaster().flush(1)
import time
deadline = time.monotonic() + 20
while not importers and time.monotonic() < deadline:
    time.sleep(0.01)
print(bool(importers), _thread.get_ident() in importers, flush=True)
import os; os._exit(0)
"""
    assert output_of(code) in ("True False\n",)


def test_what_the_senders_thread_must_not_import_first_is_there() -> None:
    """See `broadcast/__init__.py`; what would happen otherwise is in test_process.py."""
    code = "import sys, broadcast; print('threading' in sys.modules)"
    assert output_of(code) == "True\n"


COSTLY = ["logging", "concurrent.futures", "urllib.parse", "ipaddress", "traceback", "broadcast.emitter.connection"]


def test_what_is_costly_to_import_and_not_needed_for_an_event_is_not_there() -> None:
    code = f"import sys, broadcast; print([name for name in {COSTLY!r} if name in sys.modules])"
    assert output_of(code) == "[]\n"


def test_the_public_names_are_a_list() -> None:
    assert sorted(broadcast.__all__) == sorted(PUBLIC)
    names: dict[str, object] = {}
    exec("from broadcast import *", names)
    assert sorted(name for name in names if name != "__builtins__") == sorted(PUBLIC)


def test_every_public_name_says_what_it_is() -> None:
    assert all(getattr(broadcast, name).__doc__ for name in PUBLIC)
