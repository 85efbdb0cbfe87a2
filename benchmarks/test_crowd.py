"""Ten thousand HTTP operations at once."""

from benchmarks.crowd import CROWD
from benchmarks.measure import Table
from benchmarks.servers import http_server, printed_by


def test_crowd(table: Table) -> None:
    """One node, one call each, all started before the first one ends."""
    with http_server() as url:
        found = printed_by("benchmarks.crowd", url)

    note = (
        f"{found['seconds']:.1f} s, {found['cpu_seconds']:.1f} s of CPU, {found['retries']:.0f} retries, "
        f"peak {found['peak_mib']:.0f} MiB"
    )
    table.add("crowd", f"{CROWD} HTTP operations at once, finished", found["finished"], "", CROWD, at_least=True)
    table.add("crowd", "of which succeeded", found["succeeded"], "", CROWD, at_least=True, note=note)
