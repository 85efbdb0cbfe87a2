"""A million operations must leave nothing behind."""

from benchmarks.growth import POINTS
from benchmarks.measure import Table
from benchmarks.servers import printed_by


def test_growth(table: Table) -> None:
    """In a process of its own; RSS after a collection, so that what the collector would free does not count."""
    found = printed_by("benchmarks.growth")

    note = (
        ", ".join(f"{found[str(point)]:.1f}" for point in POINTS) + f" MiB; {found['microseconds']:.1f} us an operation"
    )
    table.add("memory", "growth from 100 k to 1 M operations", found["1000000"] - found["100000"], "MiB", 10, note=note)
