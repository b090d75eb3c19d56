"""Run the example mind: `python examples/mind [--interval SECONDS] [--memory FILE] [--cycles N]`."""

import argparse
import math
import os
import signal
from pathlib import Path
from types import FrameType

from broadcast import flush
from memory import Memory
from mind import Mind
from senses import Machine


def main() -> None:
    options = read_options()
    path: Path = options.memory.absolute()
    ground = next(parent for parent in path.parents if parent.is_dir())
    mind = Mind(Machine(ground), Memory(path), options.interval)

    def stop(number: int, _frame: FrameType | None) -> None:
        mind.stop_reason = signal.Signals(number).name

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    mind.live(options.cycles)
    flush(timeout_s=1.0)


def read_options() -> argparse.Namespace:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    parser = argparse.ArgumentParser(prog="mind", description="A small mind that senses this machine.")
    add = parser.add_argument
    add("--interval", type=float, default=2.0, help="from one cycle to the next, seconds (2.0)")
    add("--memory", type=Path, default=state / "v5-broadcast" / "mind.jsonl", help="where it remembers (%(default)s)")
    add("--cycles", type=int, help="how many to live (endless)")
    options = parser.parse_args()
    if not 0 < options.interval < math.inf or (options.cycles is not None and options.cycles < 1):
        parser.error("--interval and --cycles must be above 0")
    return options


if __name__ == "__main__":
    main()
