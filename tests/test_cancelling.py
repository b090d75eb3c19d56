"""A task that misses its first cancellation is ended all the same."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.log.cancelling import end_tasks, heed_cancellation


async def deaf(times: int) -> None:
    """As redis-py under Python 3.11: an answer that comes with the cancellation hides it."""
    while True:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            times -= 1
            if times < 0:
                raise


async def test_a_task_that_misses_two_cancellations_is_ended_by_the_third() -> None:
    tasks = [asyncio.create_task(deaf(times)) for times in (0, 2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end_tasks(*tasks)
    assert all(task.done() for task in tasks)


async def test_a_task_that_failed_is_no_failure_of_whoever_ends_it() -> None:
    async def fail() -> None:
        raise ValueError("it had failed before")

    failed, done = asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(0))
    await asyncio.sleep(0.01)
    await end_tasks(failed, done)


async def test_a_loop_finds_out_that_it_was_told_to_end() -> None:
    async def loop() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(10)
        heed_cancellation()
        await asyncio.sleep(10)

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
