"""Fixtures of the contract suites."""

from tests.support.databases import database, mysql, postgres, server

__all__ = ["database", "mysql", "postgres", "server"]
