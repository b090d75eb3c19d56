"""The part that lives in somebody else's process: it never waits, never raises, and is light to import."""
