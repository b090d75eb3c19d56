"""The ledger against a simulated Redis that loses replies, its tail, everything: nothing doubled, nothing silent."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from broadcast.emitter.buffer import Loss
from broadcast.emitter.ledger import Batch, Ledger


def announcement(loss: Loss) -> bytes:
    return f"lost {loss.events} {loss.reason}".encode()


def counted(payload: bytes) -> int:
    """How many events an entry of the log stands for: itself, or the lost ones."""
    return int(payload.split()[1]) if payload.startswith(b"lost") else 1


@dataclass
class Log:
    """What `append.lua` does, in Python: one producer's part of the log."""

    stored: int = 0
    entries: list[tuple[int, bytes]] = field(default_factory=list)

    def append(self, batch: Batch, *, room: int = 10**6) -> int:
        if self.stored < batch.after:
            return self.stored
        reached = max(self.stored, batch.first - 1)
        for seq, payload in enumerate(batch.payloads, batch.first):
            if seq > reached:
                if room == 0:
                    break
                room -= 1
                self.entries.append((seq, payload))
                reached = seq
        if self.entries and self.entries[-1][0] == reached:
            self.stored = max(self.stored, reached)
        return self.stored

    def forget_tail(self, entries: int) -> None:
        kept = self.entries[: max(0, len(self.entries) - entries)]
        self.entries = kept
        self.stored = kept[-1][0] if kept else 0


def test_seqs_begin_with_one_and_a_retry_keeps_them() -> None:
    ledger = Ledger(announcement)
    ledger.number([b"a", b"b"])
    assert ledger.next_batch() == ledger.next_batch() == Batch(1, (b"a", b"b"), 0)
    assert ledger.settle(1, 0.0) == 0
    assert ledger.next_batch() == Batch(2, (b"b",), 1)
    assert ledger.settle(2, 0.0) == 0
    assert ledger.next_batch() == ledger.question() == Batch(3, (), 2)


def test_a_batch_is_bounded_by_count_and_by_bytes() -> None:
    ledger = Ledger(announcement)
    ledger.number([b"x"] * 1000)
    assert len(ledger.next_batch().payloads) == 400
    assert len(ledger.next_batch(events_max=1).payloads) == 1
    large = Ledger(announcement)
    large.number([b"x" * 300_000] * 3)
    assert len(large.next_batch().payloads) == 1
    huge = Ledger(announcement)
    huge.number([b"x" * 10**6])
    assert len(huge.next_batch().payloads) == 1


def test_a_lost_tail_is_sent_again_under_the_seqs_it_had() -> None:
    ledger = Ledger(announcement)
    ledger.number([b"a", b"b", b"c"])
    ledger.settle(3, 0.0)
    ledger.number([b"d"])
    assert ledger.settle(1, 1.0) == 0
    assert ledger.next_batch() == Batch(2, (b"b", b"c", b"d"), 1)
    ledger.settle(4, 1.0)
    assert ledger.settle(3, 1.0) == 0
    assert ledger.next_batch() == Batch(4, (b"d",), 3)


def test_what_is_no_longer_kept_becomes_an_announcement_where_it_stood() -> None:
    ledger = Ledger(announcement, keep_s=5)
    ledger.number([b"a", b"b", b"c"])
    ledger.settle(3, 0.0)
    ledger.number([b"d"])
    ledger.settle(4, 100.0)
    assert ledger.settle(1, 101.0) == 2
    assert ledger.next_batch() == Batch(3, (b"lost 2 redis_rewound", b"d"), 1)
    assert ledger.settle(4, 101.0) == 0
    # Redis loses it once more: the announcement is healed like any event, and nothing is announced twice.
    assert ledger.settle(1, 102.0) == 0
    assert ledger.next_batch() == Batch(3, (b"lost 2 redis_rewound", b"d"), 1)
    # And further back than before: only what nobody has spoken for is added.
    assert ledger.settle(0, 103.0) == 1
    assert ledger.next_batch() == Batch(1, (b"lost 1 redis_rewound",), 0)
    assert ledger.settle(1, 103.0) == 0
    assert ledger.next_batch() == Batch(3, (b"lost 2 redis_rewound", b"d"), 1)


def test_a_hole_at_the_end_is_announced_too() -> None:
    ledger = Ledger(announcement, keep_s=0)
    ledger.number([b"a", b"b", b"c"])
    ledger.settle(3, 0.0)
    ledger.settle(3, 1.0)
    assert ledger.settle(0, 2.0) == 3
    assert ledger.next_batch() == Batch(3, (b"lost 3 redis_rewound",), 0)
    ledger.number([b"d"])
    assert ledger.next_batch() == Batch(3, (b"lost 3 redis_rewound", b"d"), 0)


def test_a_redis_that_cannot_say_how_far_it_is_changes_nothing() -> None:
    ledger = Ledger(announcement)
    ledger.number([b"a"])
    ledger.settle(1, 0.0)
    assert ledger.settle(-1, 0.0) == 0
    assert ledger.next_batch() == Batch(2, (), 1)


def test_a_rejected_event_is_replaced_by_its_announcement_and_that_one_is_never_rejected() -> None:
    ledger = Ledger(announcement)
    ledger.number([b"bad", b"good"])
    assert ledger.reject_first() == Loss(1, "rejected", b"bad", b"bad")
    assert ledger.next_batch() == Batch(1, (b"lost 1 rejected", b"good"), 0)
    assert ledger.reject_first() is None
    ledger.settle(1, 0.0)
    assert ledger.reject_first() == Loss(1, "rejected", b"good", b"good")
    ledger.settle(2, 0.0)
    assert ledger.reject_first() is None


def test_what_is_kept_is_bounded_by_bytes_and_by_time() -> None:
    ledger = Ledger(announcement, keep_s=5, keep_bytes_max=10)
    ledger.number([b"xxxx"] * 5)
    ledger.settle(5, 0.0)
    assert ledger.settle(0, 0.0) == 3
    old = Ledger(announcement, keep_s=5)
    old.number([b"a"])
    old.settle(1, 0.0)
    old.settle(1, 6.0)
    assert old.settle(0, 6.0) == 1


class Exchange(RuleBasedStateMachine):
    """A producer and its Redis, with every accident between them that the network and the disk know."""

    @initialize(keep_s=st.sampled_from([0.0, 3.0, 1e9]))
    def begin(self, keep_s: float) -> None:
        self.ledger = Ledger(announcement, keep_s=keep_s)
        self.log = Log()
        self.now_s = 0.0
        self.emitted = 0
        self.told_lost = 0
        self.kept_all = keep_s == 1e9

    def settle(self, stored: int) -> None:
        self.told_lost += self.ledger.settle(stored, self.now_s)

    @rule(count=st.integers(1, 5))
    def take(self, count: int) -> None:
        if not self.ledger.in_flight:
            self.ledger.number([f"event {self.emitted + i}".encode() for i in range(count)])
            self.emitted += count

    @rule()
    def append(self) -> None:
        self.settle(self.log.append(self.ledger.next_batch()))

    @rule(events_max=st.integers(1, 3))
    def append_few(self, events_max: int) -> None:
        self.settle(self.log.append(self.ledger.next_batch(events_max=events_max)))

    @rule(room=st.integers(0, 3))
    def append_until_memory_is_full(self, room: int) -> None:
        self.settle(self.log.append(self.ledger.next_batch(), room=room))

    @rule(room=st.integers(0, 5))
    def append_and_lose_the_reply(self, room: int) -> None:
        self.log.append(self.ledger.next_batch(), room=room)

    @rule()
    def ask(self) -> None:
        self.settle(self.log.append(self.ledger.question()))

    @rule()
    def get_no_answer(self) -> None:
        self.settle(-1)

    @rule(entries=st.integers(1, 6))
    def lose_the_tail(self, entries: int) -> None:
        self.log.forget_tail(entries)

    @rule()
    def lose_everything(self) -> None:
        self.log.forget_tail(10**6)

    @rule(seconds=st.floats(0.1, 4))
    def let_time_pass(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def nothing_is_doubled_and_order_is_kept(self) -> None:
        seqs = [seq for seq, _ in self.log.entries]
        assert seqs == sorted(set(seqs))
        numbers = [int(payload.split()[1]) for _, payload in self.log.entries if payload.startswith(b"event")]
        assert numbers == sorted(set(numbers))

    def teardown(self) -> None:
        """When Redis answers again, every event is in the log, or stands in an announcement's count."""
        if not hasattr(self, "log"):
            return
        for _ in range(50):
            self.settle(self.log.append(self.ledger.next_batch()))
            if not self.ledger.in_flight:
                break
        self.nothing_is_doubled_and_order_is_kept()
        assert sum(counted(payload) for _, payload in self.log.entries) == self.emitted
        assert self.told_lost >= sum(counted(p) for _, p in self.log.entries if p.startswith(b"lost"))
        assert self.ledger.acknowledged == self.emitted
        position = 0
        for seq, payload in self.log.entries:
            # Each announcement stands exactly where the events stood.
            position += counted(payload)
            assert seq == position
        if self.kept_all:
            assert len(self.log.entries) == self.emitted


Exchange.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestExchange = Exchange.TestCase
