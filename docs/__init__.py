"""The documentation. `python -m docs.generate` writes the reference pages; tests/house/test_docs.py holds all of it."""
