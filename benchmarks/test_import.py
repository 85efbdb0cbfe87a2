"""What importing the public door costs a program that has imported nothing before."""

from benchmarks.measure import Table
from benchmarks.servers import printed_by


def test_import(table: Table) -> None:
    """The best of several processes, the first of which has filled the caches."""
    found = [printed_by("benchmarks.importing") for _ in range(6)][1:]

    table.add("import", "omnibase_core.nodes, CPU", min(each["seconds"] for each in found), "s", 0.35)
    peak = min(each["peak_mib"] for each in found)
    table.add("import", "omnibase_core.nodes, peak memory of the process", peak, "MiB", 50)
