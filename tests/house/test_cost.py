"""What ONEX costs by itself must not grow unnoticed. The exact figures are the benchmarks' business."""

import pytest

from benchmarks.servers import printed_by


@pytest.fixture(scope="module")
def cost() -> dict[str, float]:
    """CPU time of a process of its own, which nothing traces; the best of several rounds."""
    return printed_by("benchmarks.cost")


@pytest.mark.parametrize(
    ("figure", "target"),
    [
        pytest.param("alone_us", 40, id="microseconds of an operation alone in its call"),
        pytest.param("in_ten_us", 25, id="microseconds of an operation in a call of ten"),
        pytest.param("load_50_ms", 5, id="milliseconds to load a contract of fifty operations"),
    ],
)
def test_the_cost_stays_below_twice_its_target(cost: dict[str, float], figure: str, target: float) -> None:
    """Twice, because the machine that runs the tests may be slow or busy; what grows that much is no accident."""
    assert cost[figure] < 2 * target
