"""How does the time of a training step grow? The ends of each range; ``-m bench`` has all."""

import functools

import pytest

from bench import scaling

RANGES = (scaling.BY_WIDTH, scaling.BY_DEPTH, scaling.BY_BATCH, scaling.BY_SAMPLES)
ENDS = [cell for cells in RANGES for cell in (cells[0], cells[-1])]
contest = functools.lru_cache(maxsize=1)(scaling.contest)


@pytest.mark.parametrize("peer", scaling.AMONG)
@pytest.mark.parametrize("cell", ENDS, ids=str)
def test_scaling(race, cell, peer):
    race(lambda: contest(cell), peer)


@pytest.mark.parametrize("peer", scaling.AMONG_THREADS)
@pytest.mark.parametrize("threads", sorted({1, scaling.THREADS}))
@pytest.mark.parametrize("cell", scaling.BY_THREADS, ids=str)
def test_threads(race, cell, threads, peer):
    race(lambda: contest(cell, scaling.AMONG_THREADS, threads), peer)
