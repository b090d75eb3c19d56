"""The example mind: what it emits, what it remembers, what changes what it does, and that nothing ends it early."""

from __future__ import annotations

import ast
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from broadcast import Broadcaster
from broadcast.emitter import broadcaster as broadcaster_module
from tests.mind_load import before_and_under_load, breaths_of, is_strained, is_used_to_it
from tests.mind_tables import SPECIFICATION, TABLES, assert_shapes
from tests.mind_world import (
    CALM,
    FOLDER,
    Event,
    MadeUpBody,
    events_in,
    lived,
    mind_process,
    of_type,
    wait_for_events,
)
from tests.servers import RedisServer, free_port

import feelings  # isort: skip - tests.mind_world has made them importable
import memory  # isort: skip
import mind  # isort: skip
import senses  # isort: skip


@pytest.fixture
def collected(
    broadcaster: Broadcaster, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[Event]]]:
    """What a mind in this process has emitted, read from the log."""
    monkeypatch.setitem(broadcaster_module._global, "broadcaster", broadcaster)

    def collect() -> list[Event]:
        assert broadcaster.flush(5)
        return events_in(redis_client)

    yield collect


def new_mind(body: MadeUpBody, path: Path) -> mind.Mind:
    made = mind.Mind(body, memory.Memory(path), interval_s=0.001)
    made.memory.load()
    return made


def wave_of(body: MadeUpBody, mood: str = "calm") -> memory.Wave:
    context = lived(0, body)
    return memory.Wave(context.nodes, context.levels, mood, {})


# --- the vocabulary


@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the specification does not lie beside this checkout")
def test_the_tables_here_are_those_of_the_specification() -> None:
    rows = re.findall(r"^\| `([a-z.]+)` \| `(.+?)` \|", SPECIFICATION.read_text(), re.MULTILINE)
    assert dict(rows) == TABLES


def test_every_type_is_emitted_with_exactly_the_fields_of_its_table(
    collected: Callable[[], list[Event]], tmp_path: Path
) -> None:
    body = MadeUpBody()
    one = new_mind(body, tmp_path / "mind.jsonl")
    calm: dict[str, float | None] = {}
    story = [calm] * 8 + [{"weight": None}] * 2 + [{"breath": 1.0}] * 8 + [calm] * 30
    step = iter(story)
    sense = one.sense

    def next_step() -> None:
        body.levels = {**CALM, **next(step)}
        sense()

    one.sense = next_step  # type: ignore[method-assign]
    one.live(len(story))

    events = collected()
    assert {event["type"] for event in events} == set(TABLES)
    assert_shapes(events)
    assert next(event["type"] for event in events if event["cycle"] == 1) == "cycle.start"
    assert events[-1]["data"] == {"reason": f"lived its {len(story)} cycles"}


def test_it_uses_no_chance_and_only_the_public_api_psutil_and_the_standard_library() -> None:
    own = {path.stem for path in FOLDER.glob("*.py")}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom) and node.module == "broadcast":
                assert set(imported) <= {"emit", "set_cycle", "cycle", "flush"}
            elif imported:
                names = [str(node.module)] if isinstance(node, ast.ImportFrom) else imported
                roots = {name.partition(".")[0] for name in names}
                assert roots <= own | {"psutil"} | set(sys.stdlib_module_names) - {"random", "secrets"}


# --- the real machine


@pytest.mark.alone
def test_real_load_changes_sense_novelty_and_mood(
    valkey_server: RedisServer, redis_client: redis.Redis, tmp_path: Path
) -> None:
    before, after = before_and_under_load(valkey_server.url, redis_client, tmp_path, patience_s=12)
    if not after:
        pytest.skip("this machine is busy with something else, so load of ours would change nothing")

    assert is_used_to_it(before)
    assert is_strained(after)
    assert any(breath.startswith("Breath is short: load ") for breath in breaths_of(after))
    usual = [data["novelty_score"] for data in of_type(before, "observe")][-4:]
    assert max(data["novelty_score"] for data in of_type(after, "observe")) > max(usual) + 0.05
    assert "strain.breath" in [data["type"] for data in of_type(after, "state.pain")]
    assert_shapes(before + after)


def test_every_sense_of_this_machine_reads_or_says_why_not(tmp_path: Path) -> None:
    machine = senses.Machine(tmp_path)
    for name, look in machine.senses.items():
        try:
            plain, close = look(False), look(True)
        except RuntimeError as error:
            assert (name, str(error)) == ("warmth", "this machine shows no thermometer")
            continue
        assert plain.phrase.startswith(f"{name.capitalize()} is {plain.word}: ")
        assert re.search(r"\d", plain.phrase)
        assert 0 <= plain.level <= 1
        assert len(close.phrase) > len(plain.phrase)


# --- memory


def test_a_seeded_past_resonates_and_an_unrelated_one_does_not(
    collected: Callable[[], list[Event]], tmp_path: Path
) -> None:
    strained = MadeUpBody(breath=0.95, pulse=0.8)
    store = memory.Memory(tmp_path / "mind.jsonl")
    for number in (1, 2):
        store.write(lived(number, MadeUpBody(breath=0.9, pulse=0.85)))
    for number in (3, 4):
        store.write(lived(number, MadeUpBody(breath=0.05, pulse=0.02, weight=0.9, ground=0.9, wind=0.8)))

    new_mind(strained, tmp_path / "mind.jsonl").live_one_cycle()

    (result,) = of_type(collected(), "wave.result")
    assert sorted(context["id"] for context in result["contexts"]) == [1, 2]
    assert all(context["resonance"] > 0.8 for context in result["contexts"])
    assert of_type(collected(), "observe")[0]["familiar"] is True


def test_what_was_never_lived_is_new(collected: Callable[[], list[Event]], tmp_path: Path) -> None:
    store = memory.Memory(tmp_path / "mind.jsonl")
    store.write(lived(1, MadeUpBody(breath=0.05, weight=0.9, ground=0.9, wind=0.8)))

    new_mind(MadeUpBody(breath=0.95, pulse=0.8), tmp_path / "mind.jsonl").live_one_cycle()

    assert of_type(collected(), "wave.result") == [{"contexts": [], "count": 0}]
    (seen,) = of_type(collected(), "observe")
    assert (seen["familiar"], seen["novelty_score"]) == (False, 1.0)


levels = st.floats(0, 1)


@given(levels, levels, levels, levels)
def test_resonance_lies_between_0_and_1_and_the_same_moment_has_1(a: float, b: float, c: float, d: float) -> None:
    here, there = MadeUpBody(breath=a, weight=b), MadeUpBody(breath=c, weight=d)
    assert memory.resonance_of(wave_of(here), lived(1, here)) == pytest.approx(1)
    between = memory.resonance_of(wave_of(here), lived(1, there))
    assert 0 <= between <= 1
    assert between == pytest.approx(memory.resonance_of(wave_of(there), lived(1, here)))


def test_a_hungry_drive_and_the_focus_bend_what_resonates() -> None:
    now, past = wave_of(MadeUpBody(breath=0.2)), lived(1, MadeUpBody(breath=0.6))
    bent = memory.Wave(now.nodes, now.levels, now.emotion, {"breath": 2.0})
    assert memory.resonance_of(bent, past) < memory.resonance_of(now, past)


def test_memory_survives_a_restart(collected: Callable[[], list[Event]], tmp_path: Path) -> None:
    first = new_mind(MadeUpBody(), tmp_path / "mind.jsonl")
    first.live(6)
    assert len(first.memory.contexts) == 5  # the sixth cycle's end was never seen

    second = new_mind(MadeUpBody(), tmp_path / "mind.jsonl")
    assert second.memory.contexts == first.memory.contexts
    assert second.memory.born_s == first.memory.born_s
    second.live_one_cycle()
    assert of_type(collected(), "observe")[-1]["familiar"] is True
    assert second.memory.next_id() == 6


def test_a_torn_last_line_harms_nothing(collected: Callable[[], list[Event]], tmp_path: Path) -> None:
    path = tmp_path / "mind.jsonl"
    new_mind(MadeUpBody(), path).live(4)
    path.write_bytes(path.read_bytes()[:-40])

    mind.Mind(MadeUpBody(), memory.Memory(path), 0.001).live(3)

    (error,) = of_type(collected(), "error")
    assert (error["source"], error["message"]) == ("memory", f"1 lines of {path} could not be read")
    again = memory.Memory(path)
    assert again.load() == 1
    assert [context.id for context in again.contexts] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "line", ["[]", "7", "{}", '{"id": 1}', "\x00", '{"born_s": "soon"}', '{"levels": {"breath": NaN}}']
)
def test_a_strange_line_is_passed_over(tmp_path: Path, line: str) -> None:
    path = tmp_path / "mind.jsonl"
    memory.Memory(path).write(lived(1, MadeUpBody()))
    path.write_text(path.read_text() + line + "\n")
    store = memory.Memory(path)
    assert store.load() == 1
    assert len(store.contexts) == 1


def test_memory_and_its_file_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CONTEXTS_MAX", 10)
    store = memory.Memory(tmp_path / "mind.jsonl")
    for number in range(100):
        store.write(lived(number, MadeUpBody()))
        assert len(store.path.read_text().splitlines()) <= 20
    assert [context.id for context in store.contexts] == list(range(90, 100))


def test_days_are_counted_from_the_birth_of_the_memory(tmp_path: Path) -> None:
    store = memory.Memory(tmp_path / "mind.jsonl")
    assert store.day(1_000_000) == 1
    store.write(lived(1, MadeUpBody()))
    again = memory.Memory(store.path)
    again.load()
    assert [again.day(1_000_000 + hours * 3600) for hours in (23, 25, 49)] == [1, 2, 3]


# --- what it feels and does


def decided(one: mind.Mind, **hunger: float) -> str:
    """What it executes in a cycle that begins with this hunger."""
    one.hunger |= hunger
    one.live_one_cycle()
    return one.choice.action


def test_a_veto_of_experience_changes_what_is_executed(collected: Callable[[], list[Event]], tmp_path: Path) -> None:
    body = MadeUpBody(breath=0.8)
    harmed = memory.Memory(tmp_path / "harmed.jsonl")
    helped = memory.Memory(tmp_path / "helped.jsonl")
    for number in (1, 2, 3):
        harmed.write(lived(number, body, action="rest", gain=-0.4))
        helped.write(lived(number, body, action="rest", gain=0.4))

    assert decided(new_mind(body, helped.path), rest=0.9) == "rest"
    (executed,) = of_type(collected(), "execute")
    assert executed["action"] == "rest"

    assert decided(new_mind(body, harmed.path), rest=0.9) == "stay"
    assert len(of_type(collected(), "execute")) == 1
    vetoes = [data for data in of_type(collected(), "critic.evaluate") if data["verdict"] == "veto"]
    assert [(veto["agent"], "3 times rest" in veto["reasoning"]) for veto in vetoes] == [("experience", True)]
    assert "rest was vetoed by experience" in of_type(collected(), "decision")[-1]["rationale"]


@pytest.mark.parametrize(("breath", "executed"), [(0.1, "hurry"), (0.9, "stay")])
def test_thrift_vetoes_hurry_under_strain(
    collected: Callable[[], list[Event]], tmp_path: Path, breath: float, executed: str
) -> None:
    slow = new_mind(MadeUpBody(breath=breath), tmp_path / "mind.jsonl")
    slow.interval_s *= 3
    assert decided(slow) == executed
    (judgement, *_) = of_type(collected(), "critic.evaluate")
    assert (judgement["agent"], judgement["verdict"]) == ("thrift", "approve" if executed == "hurry" else "veto")


def test_each_action_changes_what_it_is_or_feels_next(collected: Callable[[], list[Event]], tmp_path: Path) -> None:
    body = MadeUpBody(breath=0.2)
    one = new_mind(body, tmp_path / "mind.jsonl")
    one.live(10)
    assert one.interval_s == 0.001

    assert decided(one, rest=0.95) == "rest"
    assert one.interval_s == pytest.approx(0.0015)

    body.levels["ground"] = 0.9  # a surprise draws the focus
    assert decided(one, rest=0.0) == "attend"
    assert one.focus == "ground"
    one.live_one_cycle()
    grounds = [data["projection"] for data in of_type(collected(), "sense.project") if data["sense"] == "ground"]
    assert [ground.rpartition(": ")[2] for ground in grounds[-2:]] == ["seen", "seen closely"]

    one.memory.unsorted = 55
    before = len(one.memory.contexts)
    assert decided(one, curiosity=0.0) == "consolidate"
    assert len(memory_lines(one.memory.path)) < before
    assert "order" in [data["drive"] for data in of_type(collected(), "state.drive") if data["satisfied_by"]]


def memory_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]


def test_a_sense_that_fails_is_an_error_once_and_a_pain_until_it_answers(
    collected: Callable[[], list[Event]], tmp_path: Path
) -> None:
    body = MadeUpBody(weight=None)
    one = new_mind(body, tmp_path / "mind.jsonl")
    for _ in range(3):
        one.live_one_cycle()
    body.levels["weight"] = 0.3
    one.live_one_cycle()

    (error,) = of_type(collected(), "error")
    assert (error["source"], error["message"]) == ("weight", "OSError: no answer")
    assert error["traceback"].startswith("Traceback") and "in look" in error["traceback"]
    pains = [(data["type"], data["intensity"]) for data in of_type(collected(), "state.pain")]
    assert pains == [("numb.weight", feelings.NUMB), ("numb.weight", 0.0)]


def test_pain_begins_later_than_it_ends_so_that_it_does_not_flicker() -> None:
    def hurts(level: float, before: list[str]) -> list[str]:
        return list(feelings.pains_of([senses.feel("breath", level, "")], {}, before))

    assert hurts(0.8, []) == []
    assert hurts(0.9, []) == ["strain.breath"]
    assert hurts(0.8, ["strain.breath"]) == ["strain.breath"]
    assert hurts(0.6, ["strain.breath"]) == []


def test_mood_follows_strain_then_novelty_then_hunger() -> None:
    full, starved = {"rest": 0.0}, {"rest": 0.9}
    assert feelings.mood_of(strain=0.9, novelty=0.9, hunger=starved) == "strained"
    assert feelings.mood_of(strain=0.2, novelty=0.9, hunger=starved) == "curious"
    assert feelings.mood_of(strain=0.2, novelty=0.1, hunger=starved) == "restless"
    assert feelings.mood_of(strain=0.2, novelty=0.1, hunger=full) == "calm"


def test_a_memory_that_cannot_be_written_hurts_and_ends_nothing(
    collected: Callable[[], list[Event]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    one = mind.Mind(MadeUpBody(), memory.Memory(tmp_path / "file" / "mind.jsonl"), 0.001)
    one.live(5)
    assert [data["source"] for data in of_type(collected(), "error")] == ["memory"]
    assert "numb.memory" in one.pains
    assert len(one.memory.contexts) == 4


# --- the process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_daemon_stop(
    valkey_server: RedisServer, redis_client: redis.Redis, tmp_path: Path, number: signal.Signals
) -> None:
    with mind_process(valkey_server.url, "--interval", "30", "--memory", str(tmp_path / "m.jsonl")) as process:
        assert wait_for_events(redis_client, lambda events: of_type(events, "cycle.end"), 30)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    events = events_in(redis_client)
    assert (events[0]["type"], events[0]["data"]) == ("daemon.start", {"mode": "endless", "interval": 30.0})
    assert (events[-1]["type"], events[-1]["data"]) == ("daemon.stop", {"reason": number.name})
    assert_shapes(events)


def test_it_lives_without_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADCAST_EXIT_TIMEOUT_S", "0.1")
    path = tmp_path / "not" / "there" / "yet" / "mind.jsonl"
    options = ("--interval", "0.05", "--cycles", "6", "--memory", str(path))
    with mind_process(f"redis://127.0.0.1:{free_port()}/0", *options) as process:
        output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    assert len(memory_lines(path)) == 5


@pytest.mark.parametrize("option", [("--interval", "0"), ("--interval", "nan"), ("--cycles", "0")])
def test_an_option_out_of_range_is_refused(option: tuple[str, str]) -> None:
    with mind_process("redis://127.0.0.1:1/0", *option) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "must be above 0" in output
