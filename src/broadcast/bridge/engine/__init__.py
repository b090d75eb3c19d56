"""Socket.IO for the bridge.

In this version python-socketio does the work, in `stock.py` alone: nothing else may know it (an import contract holds
that). An engine of our own takes its place; what the bridge sees of either is `Engine` and the `Connection` it hands
over.
"""

from broadcast.bridge.engine.stock import Engine

__all__ = ["Engine"]
