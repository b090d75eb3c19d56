"""The server: one reader of the stream, a ring of the newest events, and a cursor for every viewer."""
