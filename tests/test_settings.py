"""Settings: read once, frozen, and never in the emitter's way."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.errors import SettingError
from broadcast.settings import VARIABLES, Settings

SECRET = "s" * 32


def test_without_an_environment_the_defaults_are_those_of_the_specification() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.redis_url == "redis://localhost:6379"
    assert (settings.stream, settings.channel, settings.port) == ("v5:stream", "v5:events", 5001)


def test_variables_are_read_and_an_override_wins() -> None:
    environ = {"BROADCAST_PORT": "6001", "BROADCAST_HOST": "::1", "BROADCAST_ORIGINS": "https://a, https://b,"}
    settings = Settings.from_environment(environ, host="0.0.0.0", secret=None)
    assert (settings.port, settings.host, settings.origins) == (6001, "0.0.0.0", ("https://a", "https://b"))


def test_every_setting_says_from_which_variable_it_comes_and_why() -> None:
    assert len(set(VARIABLES)) == len(VARIABLES) == len(fields(Settings))
    assert all(spec.metadata["why"] for spec in fields(Settings))


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("BROADCAST_PORT", "70000"),
        ("BROADCAST_PORT", "http"),
        ("BROADCAST_BUFFER_EVENTS_MAX", "-1"),
        ("BROADCAST_EXIT_TIMEOUT_S", "nan"),
        ("BROADCAST_EXIT_TIMEOUT_S", "inf"),
        ("BROADCAST_EXIT_TIMEOUT_S", "-1"),
        ("BROADCAST_BUFFER_EVENTS_MAX", "9" * 5000),
        ("REDIS_URL", "http://localhost"),
        ("BROADCAST_ORIGINS", ","),
        ("BROADCAST_TRUSTED_PROXIES", " "),
        ("BROADCAST_ORIGINS", "https://x/"),
        ("BROADCAST_ORIGINS", "null"),
        ("BROADCAST_ORIGINS", "https://*.example"),
        ("BROADCAST_ORIGINS", "https://x,mind.example"),
        ("BROADCAST_HOSTS", "https://bridge-a"),
        ("BROADCAST_HOSTS", "bridge-a:5001"),
        ("BROADCAST_HOSTS", "*.example"),
        ("BROADCAST_REDACT", ","),
    ],
)
def test_an_unusable_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(SettingError, match=variable):
        Settings.from_environment({variable: text})


@pytest.mark.parametrize(
    ("variable", "text", "accepted"),
    [
        ("BROADCAST_PORT", "http", "expected a port from 0 to 65535"),
        ("BROADCAST_RING_EVENTS_MAX", "many", "expected a whole number of at least 0"),
        ("BROADCAST_GRACE_S", "soon", "expected a number of at least 0"),
        ("BROADCAST_NAME", "left-1", "expected at most 32 letters, digits and _"),
        ("BROADCAST_NAME", "größer", "expected at most 32 letters, digits and _"),
        ("BROADCAST_NAME", "a" * 33, "expected at most 32 letters, digits and _"),
    ],
)
def test_what_is_accepted_is_said_in_words(variable: str, text: str, accepted: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.from_environment({variable: text})
    assert str(caught.value) == f"{variable}: {text!r}: {accepted}"


def test_a_bridge_has_a_name_if_it_is_given_one() -> None:
    for name in ("a", "Left_2", "_" * 32):
        assert name == Settings.from_environment({"BROADCAST_NAME": name}).name
    assert "" == Settings.from_environment({}).name


@pytest.mark.parametrize(
    ("name", "value"),
    [("name", "a-b"), ("port", 99999), ("port", -1), ("redis_url", "nonsense"), ("redis_url", "http://me:hunter2@h")],
)
def test_an_unusable_override_is_named_with_its_value_and_without_its_password(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=f"^{name}: ") as caught:
        Settings.from_environment({}, **{name: value})
    assert str(value).rpartition("@")[2] in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_what_is_overridden_is_not_read() -> None:
    assert Settings.from_environment({"BROADCAST_PORT": "x"}, port=6001).port == 6001


def test_several_unusable_variables_are_named_together() -> None:
    with pytest.raises(SettingError, match=r"REDIS_URL.*BROADCAST_PORT"):
        Settings.from_environment({"REDIS_URL": "x", "BROADCAST_PORT": "y"})


def test_a_file_may_hold_a_value(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    assert Settings.from_environment({"BROADCAST_SECRET_FILE": str(tmp_path / "secret")}).secret == SECRET
    with pytest.raises(SettingError, match="BROADCAST_SECRET"):
        Settings.from_environment({"BROADCAST_SECRET_FILE": str(tmp_path)})


@pytest.mark.parametrize("text", ["", "\n", "  \n\n"])
def test_a_file_that_is_empty_is_no_value_and_opens_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(text)
    for variable in ("BROADCAST_SECRET", "BROADCAST_SECRET_PREVIOUS", "BROADCAST_ANONYMOUS", "DATABASE_URL"):
        with pytest.raises(SettingError, match=f"{variable}_FILE=.*: the file is empty"):
            Settings.from_environment({f"{variable}_FILE": str(tmp_path / "secret")})


def test_a_secret_or_a_password_is_never_shown() -> None:
    assert SECRET not in repr(Settings(secret=SECRET))
    with pytest.raises(SettingError, match="at least 32 bytes") as short:
        Settings(secret="hunter2")
    assert "hunter2" not in str(short.value)
    with pytest.raises(SettingError) as caught:
        Settings.from_environment({"REDIS_URL": "http://me:hunter2@host:6379"})
    assert "hunter2" not in str(caught.value)
    assert "host:6379" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("REDIS_URL", "redis+sentinel://h/kai?sentinel_passwort=hunter2"),
        ("REDIS_URL", "redis+sentinel://h/kai?sentinel_passwort=x@hunter2"),
        ("REDIS_URL", "redis://me:hunter2/x@host:6379"),
        ("REDIS_URL", "http://me:hunter2?x@host:6379"),
        ("DATABASE_URL", "mysql://h/name?password=hunter2"),
        ("DATABASE_URL", "host=h password=hunter2://x"),
    ],
)
def test_nor_one_that_stands_elsewhere_in_an_address(variable: str, text: str) -> None:
    with pytest.raises(SettingError, match=variable) as caught:
        Settings.from_environment({variable: text})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given_url", "url"),
    [("valkey://h:1/2", "redis://h:1/2"), ("valkeys://h", "rediss://h"), ("unix:///run/r.sock", "unix:///run/r.sock")],
)
def test_addresses_of_valkey_are_known_wherever_they_come_from(given_url: str, url: str) -> None:
    assert Settings.from_environment({"REDIS_URL": given_url}).redis_url == url
    assert Settings(redis_url=given_url).redis_url == url
    assert Settings().with_changes(redis_url=given_url).redis_url == url


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_the_emitter_takes_defaults_for_what_it_cannot_use_and_says_so() -> None:
    settings, problems = Settings.for_emitter({"BROADCAST_EXIT_TIMEOUT_S": "soon", "BROADCAST_STREAM": "mine"})
    assert (settings.exit_timeout_s, settings.stream) == (2.0, "mine")
    assert [problem.partition(":")[0] for problem in problems] == ["BROADCAST_EXIT_TIMEOUT_S"]


def test_the_emitter_reads_only_what_it_needs(tmp_path: Path) -> None:
    environ = {"BROADCAST_SECRET": "short", "BROADCAST_PORT": "x", "BROADCAST_HOST_FILE": str(tmp_path / "nowhere")}
    assert Settings.for_emitter(environ) == (Settings(), [])


@given(st.dictionaries(st.sampled_from([*VARIABLES, *(f"{name}_FILE" for name in VARIABLES)]), st.text(max_size=8)))
def test_no_environment_makes_the_emitters_settings_raise(environ: dict[str, str]) -> None:
    settings, _ = Settings.for_emitter(environ)
    assert isinstance(settings, Settings)


def test_the_secret_of_an_example_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^BROADCAST_SECRET: .*everybody knows"):
        Settings(secret="CHANGE-ME-to-at-least-32-bytes-of-your-own")
