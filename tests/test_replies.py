"""Which error replies mean waiting, and which mean that this one event will never be taken."""

from __future__ import annotations

import pytest

from broadcast.emitter.replies import is_elsewhere, is_transient


@pytest.mark.parametrize(
    "error",
    [
        "",
        "LOADING Redis is loading the dataset in memory",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "ERR OOM command not allowed when used memory > 'maxmemory'.",
        "MISCONF Redis is configured to save RDB snapshots",
        "READONLY You can't write against a read only replica.",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "Operation against a key holding the wrong kind of value",
        "NOPERM User guest has no permissions to run the 'xadd' command",
        "ERR The user executing the script can't run this command or subcommand",
        "ERR ACL failure in script: User guest has no permissions to run the 'set' command",
        "ERR The stream has exhausted the last possible ID, unable to add more items",
        "CLUSTERDOWN The cluster is down",
        "BUSY Redis is busy running a script.",
        "NOSCRIPT No matching script. Please use EVAL.",
        "unknown command 'EVALSHA', with args beginning with:",
    ],
)
def test_states_of_the_server_pass(error: str) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error", ["Protocol error: invalid bulk length", "ERR string exceeds maximum allowed size (proto-max-bulk-len)"]
)
def test_what_lies_in_the_event_does_not(error: str) -> None:
    assert not is_transient(error)


def test_a_server_that_takes_no_writes_is_told_from_one_that_refuses_this_one() -> None:
    for error in ("READONLY You can't write against a read only replica.", "MOVED 1 h:1", "ASK 1 h:1", "-READONLY x"):
        assert is_elsewhere(error)
    for error in ("", "OOM command not allowed", "WRONGTYPE READONLY", "ERR "):
        assert not is_elsewhere(error)
