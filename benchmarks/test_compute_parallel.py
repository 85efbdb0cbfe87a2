"""Two processes against one, and exact sums against plain ones."""

from benchmarks.measure import Table
from benchmarks.servers import printed_by


def test_compute_parallel(table: Table) -> None:
    """In a program of its own; wall time, because that is what the processes are for."""
    found = printed_by("benchmarks.compute_parallel")

    note = f"{found['one']:.2f} s in one, {found['two']:.2f} in two"
    table.add("parallel", "speed-up by two processes", found["one"] / found["two"], "x", 1.7, at_least=True, note=note)
    table.add(
        "parallel",
        "speed-up by two of concurrent.futures (spawn)",
        found["one"] / found["pool"],
        "x",
        note="for comparison",
    )
    figure = "speed-up by two of joblib (loky, its processes kept)"
    if "joblib" in found:
        table.add("parallel", figure, found["one"] / found["joblib"], "x", note="for comparison")
    else:
        table.add_absent("parallel", figure, "joblib")
    note = f"plain loop {found['loop']:.0f}, math.fsum {found['fsum']:.0f}, chunks of 1000 floats"
    for name in ("sum", "mean"):
        table.add("aggregation", f"exact {name}", found[name], "M items/s", 5, at_least=True, note=note)
    table.add("aggregation", "exact stddev", found["stddev"], "M items/s")
