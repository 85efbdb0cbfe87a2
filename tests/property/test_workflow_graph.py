"""Order, depth and cycles of steps, over random graphs."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from omnibase_core.utils.workflow_graph import (
    ancestors_of,
    cycles_of,
    dependents_of,
    depths_of,
    topological_order,
)
from tests.support.timing import cpu_bound

MANY = settings(max_examples=200, deadline=None)


@st.composite
def graphs(draw: st.DrawFn) -> list[list[int]]:
    """Any graph: who needs whom, cycles included."""
    size = draw(st.integers(1, 12))
    return [draw(st.lists(st.integers(0, size - 1), unique=True, max_size=4)) for _ in range(size)]


@st.composite
def acyclic(draw: st.DrawFn) -> list[list[int]]:
    """A graph without a cycle, its steps declared in any order."""
    size = draw(st.integers(1, 12))
    rank = draw(st.permutations(range(size)))
    needed: list[list[int]] = [[] for _ in range(size)]
    for index in range(size):
        before = [other for other in range(size) if rank[other] < rank[index]]
        if before:
            needed[index] = draw(st.lists(st.sampled_from(before), unique=True, max_size=4))
    return needed


def reachable(needed: list[list[int]], start: int) -> set[int]:
    """What a step waits for, directly or not, found without the module under test."""
    found: set[int] = set()
    pending = list(needed[start])
    while pending:
        other = pending.pop()
        if other not in found:
            found.add(other)
            pending += needed[other]
    return found


@MANY
@given(acyclic())
def test_the_order_is_topological_and_ties_go_by_declaration(needed: list[list[int]]) -> None:
    """Each step stands behind what it needs; of those that could come next it is the first declared."""
    order = topological_order(needed)

    assert sorted(order) == list(range(len(needed)))
    done: set[int] = set()
    for index in order:
        ready = [i for i in range(len(needed)) if i not in done and set(needed[i]) <= done]
        assert index == ready[0]
        done.add(index)


@MANY
@given(acyclic())
def test_depth_is_the_longest_way_and_ancestors_are_all_before(needed: list[list[int]]) -> None:
    """Depths and ancestors are those that a search finds."""
    order = topological_order(needed)

    depths, ancestors = depths_of(needed, order), ancestors_of(needed, order)

    for index in range(len(needed)):
        assert depths[index] == max((depths[other] + 1 for other in needed[index]), default=0)
        assert {i for i in range(len(needed)) if ancestors[index] >> i & 1} == reachable(needed, index)


@MANY
@given(graphs())
def test_cycles_are_real_paths_and_one_is_found_where_there_is_one(needed: list[list[int]]) -> None:
    """Each step of a cycle needs the next, the last the first; no two cycles share a step; none is told of an order."""
    cycles = cycles_of(needed)

    for circle in cycles:
        for here, there in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert there in needed[here]
    steps = [step for circle in cycles for step in circle]
    assert len(steps) == len(set(steps))
    assert bool(cycles) == any(index in reachable(needed, index) for index in range(len(needed)))
    assert bool(cycles) == (len(topological_order(needed)) < len(needed))


@MANY
@given(graphs())
def test_dependents_are_the_other_way_round(needed: list[list[int]]) -> None:
    """A step is among the dependents of each step that it needs, once."""
    dependents = dependents_of(needed)

    assert {(a, b) for a in range(len(needed)) for b in needed[a]} == {
        (b, a) for a in range(len(needed)) for b in dependents[a]
    }


def test_a_long_chain_is_no_deep_recursion_and_no_square() -> None:
    """20,000 steps in a row are ordered, and their cycle is found, at once."""
    size = 20_000
    chain = [[index - 1] if index else [] for index in range(size)]
    ring = [[(index - 1) % size] for index in range(size)]

    started = time.process_time()
    assert topological_order(chain) == list(range(size))
    assert len(cycles_of(ring)[0]) == size
    assert time.process_time() - started < cpu_bound(2.0)
