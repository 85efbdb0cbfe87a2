"""The order of steps: topological, with depths, ancestors, and the cycles that forbid one.

Steps are numbers, in order of declaration; `needed[i]` are the steps that step i depends on.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

Needed = Sequence[Sequence[int]]


def topological_order(needed: Needed) -> list[int]:
    """Every step behind those it depends on; of several that could come next, the one that was declared first.

    Steps on a cycle, and those behind one, are left out.
    """
    dependents = dependents_of(needed)
    open_count = [len(set(before)) for before in needed]
    ready = [index for index, count in enumerate(open_count) if not count]
    heapify(ready)
    order: list[int] = []
    while ready:
        index = heappop(ready)
        order.append(index)
        for other in dependents[index]:
            open_count[other] -= 1
            if not open_count[other]:
                heappush(ready, other)
    return order


def dependents_of(needed: Needed) -> list[list[int]]:
    """By step, those that depend on it, each once."""
    dependents: list[list[int]] = [[] for _ in needed]
    for index, before in enumerate(needed):
        for other in dict.fromkeys(before):
            dependents[other].append(index)
    return dependents


def depths_of(needed: Needed, order: Sequence[int]) -> list[int]:
    """By step, the length of the longest way to it; 0 for those that `order` lacks."""
    depths = [0] * len(needed)
    for index in order:
        depths[index] = max((depths[other] + 1 for other in needed[index]), default=0)
    return depths


def ancestors_of(needed: Needed, order: Sequence[int]) -> list[int]:
    """By step, the set of those that are surely done before it, as bits of a number."""
    ancestors = [0] * len(needed)
    for index in order:
        bits = 0
        for other in needed[index]:
            bits |= ancestors[other] | 1 << other
        ancestors[index] = bits
    return ancestors


def cycles_of(needed: Needed) -> list[list[int]]:
    """Cycles that share no step with each other, at least one of each tangle; each as the steps in the order in which
    they wait for each other, without the first one repeated.
    """
    found: list[list[int]] = []
    on_trail: dict[int, int] = {}
    done: set[int] = set()
    used: set[int] = set()
    for start in range(len(needed)):
        if start in done:
            continue
        trail = [start]
        on_trail[start] = 0
        stack = [iter(needed[start])]
        while stack:
            target = next(stack[-1], None)
            if target is None:
                stack.pop()
                last = trail.pop()
                del on_trail[last]
                done.add(last)
            elif target in on_trail:
                circle = trail[on_trail[target] :]
                if used.isdisjoint(circle):
                    found.append(circle)
                    used.update(circle)
            elif target not in done:
                on_trail[target] = len(trail)
                trail.append(target)
                stack.append(iter(needed[target]))
    return found
