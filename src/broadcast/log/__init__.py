"""Reading the log: positions, the stream, and what a cursor can no longer be given."""
