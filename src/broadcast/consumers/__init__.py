"""Consumers of the log that are no servers."""
