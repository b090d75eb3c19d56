"""Run the example mind: `python examples/mind [--interval SECONDS] [--memory FILE] [--cycles N]`."""

import argparse
import math
import os
import signal
from pathlib import Path

from broadcast import flush
from memory import Memory
from mind import Mind
from senses import Machine

state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "v5-broadcast"
parser = argparse.ArgumentParser(prog="mind", description="A small mind that senses this machine.")
parser.add_argument("--interval", type=float, default=2.0, help="from one cycle to the next, seconds (%(default)s)")
parser.add_argument("--memory", type=Path, default=state / "mind.jsonl", help="where it remembers (%(default)s)")
parser.add_argument("--cycles", type=int, default=math.inf, help="how many to live (endless)")
options = parser.parse_args()
if not (0 < options.interval < math.inf and options.cycles > 0):
    parser.error("--interval and --cycles must be above 0")

path: Path = options.memory.absolute()
ground = next(parent for parent in path.parents if parent.is_dir())
mind = Mind(Machine(ground), Memory(path), options.interval)


def stop(number: int, frame: object) -> None:
    mind.stop_reason = signal.Signals(number).name


signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
mind.live(options.cycles)
flush(timeout_s=1.0)
