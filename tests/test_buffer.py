"""The buffer: bounded, the oldest goes first, and its accounts are exact without a lock."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcast.emitter.buffer import Buffer, Loss

APPEND = st.tuples(st.just("append"), st.integers(0, 12))
TAKE = st.tuples(st.just("take"), st.integers(1, 5))
LOSS = st.tuples(st.just("loss"), st.just(0))


@given(st.integers(0, 6), st.integers(0, 40), st.lists(APPEND | TAKE | LOSS, max_size=60))
def test_it_does_what_a_plain_list_would_do(events_max: int, bytes_max: int, steps: list[tuple[str, int]]) -> None:
    buffer = Buffer(events_max=events_max, bytes_max=bytes_max)
    model: list[bytes] = []
    dropped: list[bytes] = []
    announced = accepted = 0
    for number, (step, size) in enumerate(steps):
        if step == "append":
            payload = f"{number}".encode() + b"x" * size
            buffer.append(payload)
            model.append(payload)
            accepted += 1
            while len(model) > max(1, events_max) or sum(map(len, model)) > bytes_max:
                dropped.append(model.pop(0))
        elif step == "take":
            taken = buffer.take(events_max=size, bytes_max=20)
            assert taken == model[: len(taken)]
            assert bool(taken) == bool(model)
            assert len(taken) in (size, len(model)) or sum(map(len, taken)) >= 20
            del model[: len(taken)]
        else:
            fresh = dropped[announced:]
            assert buffer.has_loss == bool(fresh)
            expected = Loss(len(fresh), "buffer_full", fresh[0], fresh[-1]) if fresh else None
            assert buffer.take_loss() == expected
            announced = len(dropped)
        assert (len(buffer), buffer.bytes) == (len(model), sum(map(len, model)))
        assert (buffer.accepted, buffer.dropped) == (accepted, len(dropped))


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty_threads")
def test_the_accounts_of_eight_threads_are_exact() -> None:
    buffer = Buffer(events_max=100, bytes_max=3000)
    per_thread, threads_count = 15_000, 8
    taken: list[bytes] = []
    losses: list[Loss] = []
    done = threading.Event()

    def produce(thread: int) -> None:
        for number in range(per_thread):
            buffer.append(b"%d:%d:%s" % (thread, number, b"x" * (number % 40)))

    def consume() -> None:
        while not done.is_set() or buffer:
            if (loss := buffer.take_loss()) is not None:
                losses.append(loss)
            taken.extend(buffer.take(events_max=50, bytes_max=1000))

    consumer = threading.Thread(target=consume)
    producers = [threading.Thread(target=produce, args=(thread,)) for thread in range(threads_count)]
    for thread in (consumer, *producers):
        thread.start()
    for thread in producers:
        thread.join()
    done.set()
    consumer.join()
    if (loss := buffer.take_loss()) is not None:
        losses.append(loss)
    assert buffer.accepted == per_thread * threads_count
    assert buffer.dropped + len(taken) == buffer.accepted
    assert buffer.dropped == sum(loss.events for loss in losses)
    assert (buffer.bytes, len(buffer)) == (0, 0)
    for thread_number in range(threads_count):
        numbers = [int(payload.split(b":")[1]) for payload in taken if payload.startswith(b"%d:" % thread_number)]
        assert numbers == sorted(set(numbers))


def test_a_signal_handler_may_append_at_any_moment() -> None:
    """SIGALRM at 5 kHz interrupts appends with appends; no count goes astray."""
    buffer = Buffer(events_max=50, bytes_max=600)
    calls = 0

    def on_alarm(_number: int, _frame: FrameType | None) -> None:
        nonlocal calls
        calls += 1
        buffer.append(b"from the handler")

    before = signal.signal(signal.SIGALRM, on_alarm)
    taken = 0
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        for number in range(100_000):
            buffer.append(b"x" * (number % 30))
            if number % 7 == 0:
                taken += len(buffer.take(events_max=3, bytes_max=1000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls
    assert buffer.accepted == 100_000 + calls
    assert buffer.accepted == taken + buffer.dropped + len(buffer)
    taken_bytes = sum(map(len, buffer.take(events_max=1000, bytes_max=10**6)))
    assert taken_bytes <= 600
    assert buffer.bytes == 0
