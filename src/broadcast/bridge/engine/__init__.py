"""Socket.IO for the bridge: both protocols as pure state machines, and the transports that carry them.

`packets.py`, `session.py`, `namespaces.py` and `wheel.py` are pure; `client.py` is one client; `websocket.py` and
`polling.py` are the transports, `engine.py` all of it together.
"""
