"""A bridge that stops sends a crowd away in waves, within its grace time, and a few viewers at once."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.bridge.app import Bridge
from broadcast.bridge.goodbye import AT_ONCE_MAX, GRACE_PART, RATE, WAVE_S, waves
from broadcast.settings import Settings


@given(st.integers(0, 100_000), st.floats(0, 600))
def test_everybody_is_told_once_evenly_and_within_a_part_of_the_grace_time(viewers: int, grace_s: float) -> None:
    told = list(waves(viewers, grace_s=grace_s))
    assert list(range(viewers)) == [index for wave in told for index in range(wave.first, wave.end)]
    assert sorted(wave.due_s for wave in told) == [wave.due_s for wave in told]
    assert all(wave.due_s <= grace_s * GRACE_PART for wave in told)
    sizes = [wave.end - wave.first for wave in told]
    assert not sizes or max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("viewers", [0, 1, AT_ONCE_MAX])
def test_a_few_are_told_at_once(viewers: int) -> None:
    assert all(wave.due_s == 0 for wave in waves(viewers, grace_s=5))


def test_a_crowd_goes_at_its_pace_if_the_grace_time_lasts() -> None:
    long, short = (list(waves(2_000, grace_s=grace_s)) for grace_s in (60, 1))
    assert 2_000 / RATE - WAVE_S == pytest.approx(long[-1].due_s)
    assert 1 * GRACE_PART - WAVE_S == pytest.approx(short[-1].due_s, abs=WAVE_S)


class HurriedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to whatever comes next."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now_s


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: HurriedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        self._loop.now_s += timeout or 0
        return super().select(0)


class Departing:
    """A viewer that notes when it is told to go, and goes."""

    def __init__(self, bridge: Bridge, told: list[tuple[float, str]], *, listens: bool = True) -> None:
        self.bridge = bridge
        self.told = told
        self.listens = listens
        self.was_cut = False

    def dismiss(self, code: str) -> None:
        self.told.append((asyncio.get_running_loop().time(), code))
        if self.listens:
            self._go()

    def cut(self) -> None:
        self.was_cut = True
        self._go()

    def _go(self) -> None:
        viewers = cast("set[Any]", self.bridge.fanout.viewers)
        viewers.discard(self)
        if not viewers:
            self.bridge._left.set()


def stopped(viewers: int, *, grace_s: float, deaf: int = 0) -> tuple[list[float], float, list[Departing]]:
    """When each was told, and when it was over, in seconds after the signal."""
    told: list[tuple[float, str]] = []

    async def stop() -> tuple[float, list[Departing]]:
        bridge = Bridge(Settings(redis_url="redis://127.0.0.1:1", grace_s=grace_s))
        crowd = [Departing(bridge, told, listens=i >= deaf) for i in range(viewers)]
        cast("set[Any]", bridge.fanout.viewers).update(crowd)
        began_s = asyncio.get_running_loop().time()
        await bridge.stop()
        return asyncio.get_running_loop().time() - began_s, crowd

    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        took_s, crowd = runner.run(stop())
    assert {"shutdown"} == {code for _, code in told}
    return [at_s - 1000.0 for at_s, _ in told], took_s, crowd


def test_whoever_comes_while_a_crowd_is_leaving_is_sent_to_another_bridge() -> None:
    refusals: list[Any] = []

    async def stop() -> None:
        bridge = Bridge(Settings(redis_url="redis://127.0.0.1:1"))
        cast("set[Any]", bridge.fanout.viewers).update(Departing(bridge, []) for _ in range(1_000))
        refusals.append(bridge._refuse({}, ""))
        stopping = asyncio.create_task(bridge.stop())
        await asyncio.sleep(0.1)
        assert bridge.fanout.viewers
        refusals.append(bridge._refuse({}, ""))
        await stopping

    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        runner.run(stop())
    before, during = refusals
    assert before is None
    assert 503 == during[0]


def test_a_bridge_with_few_viewers_sends_them_away_at_once() -> None:
    at_s, took_s, _ = stopped(AT_ONCE_MAX, grace_s=5)
    assert {0.0} == set(at_s)
    assert took_s < 0.1


def test_a_bridge_with_a_crowd_spreads_its_good_byes() -> None:
    at_s, took_s, _ = stopped(3_000, grace_s=5)
    assert 3_000 == len(at_s)
    for begin_s in (0.0, 0.25, 0.5, 0.75, 1.0):
        in_time = sum(begin_s <= each < begin_s + 0.25 for each in at_s)
        assert 3_000 / 5 * 0.85 < in_time < 3_000 / 5 * 1.15
    assert took_s < 5 / 2


def test_whoever_does_not_listen_keeps_nobody_beyond_the_grace_time() -> None:
    _, took_s, crowd = stopped(3_000, grace_s=2, deaf=500)
    assert 500 == sum(each.was_cut for each in crowd)
    assert took_s <= 2 * (GRACE_PART + 0.25 + 0.25)
