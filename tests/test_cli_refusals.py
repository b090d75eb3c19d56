"""What a command cannot work with: one line that names the field, what it was given and what is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import Command
from tests.servers import free_port


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("emit|", 2, "'TYPE': expected a type such as sense.project, got an empty text"),
        ("emit|x|{bad", 2, "JSON: unexpected character"),
        ("emit|x|hello", 2, "a text is written as '\"text\"'"),
        ("emit|x|1|--timeout|-1", 2, "'--timeout': expected a number of seconds of at least 0, got -1"),
        ("emit|x|1|--timeout|nan", 2, "'--timeout': expected a number of seconds of at least 0, got nan"),
        ("emit|x|1|--redis-url|nonsense", 1, "redis_url: 'nonsense': expected an address that begins with"),
        ("tail|--redis-url|http://me:hunter2@host", 1, "redis_url: …@'host': expected an address"),
        ("tail|--types|sense.*x y", 1, "accepted are"),
        ("tail|--types|a b", 1, "types: 'a b' is not a pattern; accepted are"),
        ("tail|--since|yesterday", 1, "since: 'yesterday' is no position; accepted are"),
        ("record|FOLDER", 1, "FOLDER: Is a directory"),
        ("record|FOLDER/r.jsonl|--rotate-bytes|-5", 2, "'--rotate-bytes': Input should be greater than or equal to 0"),
        ("record|FOLDER/r.jsonl|--redis-url|nonsense", 1, "redis_url: 'nonsense': expected an address"),
        ("record|FOLDER/r.jsonl|--types|a b", 1, "types: 'a b' is not a pattern"),
        ("serve|--port|99999", 1, "port: '99999': expected a port from 0 to 65535"),
        ("serve|--port|http", 2, "'--port'"),
        ("up|--no-archive|--keep|30d", 1, "--keep: it is for the archive"),
        ("up|--port|-1", 1, "port: '-1': expected a port from 0 to 65535"),
        ("doctor|--redis-url|nonsense", 1, "redis_url: 'nonsense': expected an address"),
        ("token|issue|--sub|anna", 1, "BROADCAST_SECRET is not set"),
        ("token|issue", 2, "'--sub'"),
        ("token|issue|--sub|anna|--ttl|0s", 1, "--ttl: expected a duration such as 30m"),
        ("token|revoke|", 1, "expected a token, or - and the token on standard input"),
        ("token|revoke|x|--until|later", 1, "expected a duration such as 30m"),
        ("nonsense", 2, "No such command 'nonsense'"),
    ],
)
def test_what_cannot_be_worked_with_is_named_in_one_line(
    arguments: str, code: int, said: str, tmp_path: Path, command: Command
) -> None:
    words = arguments.replace("FOLDER", str(tmp_path)).split("|")
    got, out, err = command(*words)

    assert (code, "", 1) == (got, out, err.count("\n"))
    assert err.startswith("broadcast: ")
    assert said.replace("FOLDER", str(tmp_path)) in err
    assert "hunter2" not in err
    assert [] == list(tmp_path.iterdir()), "nothing is left of what was refused"


def test_an_event_that_redis_did_not_take_in_time_is_said_to_be_missing(command: Command) -> None:
    code, out, err = command("emit", "x", "--timeout", "0", redis_url=f"redis://127.0.0.1:{free_port()}")

    assert (1, "") == (code, out)
    assert err.startswith("broadcast: not in the log after 0 s: ")
    assert "None" not in err


def test_an_event_without_redis_says_why_it_is_missing(command: Command) -> None:
    code, _, err = command("emit", "note", "{}", "--timeout", "0.5", redis_url=f"redis://127.0.0.1:{free_port()}")

    assert 1 == code
    assert "not in the log" in err and "refused" in err and "Traceback" not in err
