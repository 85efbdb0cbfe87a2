"""Executors that the setting `compute_cluster` can name."""

import multiprocessing
from concurrent.futures import Executor, ProcessPoolExecutor

MADE: list[Executor] = []


def of_processes() -> Executor:
    """A real pool of another library, as an engine is."""
    MADE.append(ProcessPoolExecutor(2, multiprocessing.get_context("spawn")))
    return MADE[-1]


def of_nothing() -> object:
    return object()
