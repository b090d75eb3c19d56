"""Whether this process is the one that began, or a fork of it: answered without a system call.

`os.register_at_fork` misses forks that Python does not see (uWSGI's, or any in C). The kernel does not: a page of
memory that it wipes in every child (`MADV_WIPEONFORK`, Linux 4.14, see madvise(2)) tells, and reading it costs a
tenth of `getpid()`. Where there is no such page, the process id is asked for.
"""

from __future__ import annotations

import mmap
import os
from typing import Final, Protocol

__all__ = ["FORK_MARK", "ForkMark", "PidMark", "wiped_page"]

_MADV_WIPEONFORK: Final = 18


class ForkMark(Protocol):
    """`mark[0]` is 1 in the process that set it and 0 in every child, however that was made."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


class PidMark:
    """The mark by process id, for systems that wipe no pages."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return int(os.getpid() == self._pid)

    def __setitem__(self, index: int, value: int, /) -> None:
        self._pid = os.getpid()


def wiped_page() -> ForkMark | None:
    """The mark as a page that the kernel wipes at a fork; None where it does not."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (OSError, AttributeError):  # another system, or an older kernel
        return None
    page[0] = 1
    return page


FORK_MARK: Final[ForkMark] = wiped_page() or PidMark()
