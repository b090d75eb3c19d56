"""Why something does not work: said in the log, and not once for each who asks."""

from __future__ import annotations

from structlog.testing import capture_logs

from broadcast.bridge.outage import SAID_AGAIN_S, SAID_S, Outage


def test_a_reason_is_said_in_the_log_alone_and_now_and_then() -> None:
    now_s = 100.0
    away = Outage("it cannot be read", clock=lambda: now_s)
    with capture_logs() as logs:
        for step_s, reason in [
            (0.0, "bridge at 10.0.0.7"),
            (0.5 * SAID_AGAIN_S, "bridge at 10.0.0.7"),
            (0.6 * SAID_AGAIN_S, "bridge at 10.0.0.7"),
            (0.5 * SAID_S, "another"),
            (0.6 * SAID_S, "another"),
        ]:
            now_s += step_s
            refusal = away.refusal(ConnectionError(reason))
            assert ("unavailable", "it cannot be read") == (refusal.code.name, refusal.message)
    assert ["bridge at 10.0.0.7", "bridge at 10.0.0.7", "another"] == [each["reason"] for each in logs]
