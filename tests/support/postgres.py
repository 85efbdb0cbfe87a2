"""Fixtures, to be written."""
