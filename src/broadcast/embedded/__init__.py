"""Valkey and PostgreSQL for one machine: private servers, each on a folder that one process owns at a time."""

from broadcast.embedded.postgresql import PrivatePostgresql
from broadcast.embedded.valkey import PrivateValkey, find_server

__all__ = ["PrivatePostgresql", "PrivateValkey", "find_server"]
