"""Rows of a batch go to the members of a team as they are fast, and no number depends on it."""

import itertools
import platform

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd import MLPClassifier
from fastgd.kernels import layout
from fastgd.kernels.aligned import LINE_NUMBERS
from fastgd.kernels.plan import Plan
from fastgd.kernels.shares import (
    WORTH_MOVING,
    call_even_out,
    clock,
    even_out_entry,
    note_cycles,
    own_blocks,
    shares_of,
)
from fastgd.kernels.tiles import HAS_TILES
from test_threads import WAYS, assert_same_bits, fit
from threads import Restless, several_threads

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

needs_tiles = pytest.mark.skipif(not HAS_TILES, reason="where products are BLAS's there is no team")
HAS_CLOCK = platform.machine() in ("x86_64", "AMD64")
N_BLOCKS = 8


@numba.njit
def own(plans, n_blocks):
    return own_blocks(plans[0], plans[0].shares, n_blocks)


@numba.njit
def work(plans, n_blocks, n_numbers):
    """Some work, of which nothing is known beforehand but that it takes time."""
    started = clock()
    total = 0.0
    for i in range(n_numbers):
        total += np.sin(float(i))
    note_cycles(plans[0], plans[0].shares, n_blocks, started)
    return total


@numba.njit
def move(plans, n_blocks):
    plan = plans[0]
    call_even_out(plan.even_out, plan.shares, n_blocks, plan.size)


class Team:
    """Plans of members that share some blocks, each as fast as is said."""

    def __init__(self, speeds, n_blocks=N_BLOCKS):
        self.speeds, self.n_blocks = speeds, n_blocks
        self.shares = shares_of(n_blocks)
        self.plans = [
            Plan(np.float32).set(
                rank=rank, size=len(speeds), shares=self.shares, **even_out_entry()
            )
            for rank in range(len(speeds))
        ]

    def blocks(self):
        """How many each member has; all belong to somebody."""
        shares = [own(plan.record, self.n_blocks) for plan in self.plans]
        assert shares[0][0] == 0
        assert shares[-1][1] == self.n_blocks
        assert all(a[1] == b[0] for a, b in itertools.pairwise(shares))
        return [hi - lo for lo, hi in shares]

    def train(self, n_batches):
        for _ in range(n_batches):
            for rank, (n, speed) in enumerate(zip(self.blocks(), self.speeds, strict=True)):
                self.shares[rank * LINE_NUMBERS] = 1e6 * n / speed
            move(self.plans[0].record, self.n_blocks)


def is_as_good_as_can_be(blocks, speeds):
    """Whether no block could go to another member so that all would be done earlier."""
    seconds = [n / speed for n, speed in zip(blocks, speeds, strict=True)]
    slowest = int(np.argmax(seconds))
    return blocks[slowest] == 1 or all(
        (n + 1) / speed >= WORTH_MOVING * seconds[slowest] * (1 - 1e-4)
        for n, speed in zip(blocks, speeds, strict=True)
    )


@settings(deadline=None)  # the first example compiles
@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=5), st.integers(0, 12))
def test_who_is_faster_gets_more(speeds, n_more):
    team = Team(speeds, len(speeds) + n_more)
    team.train(60)
    blocks = team.blocks()
    assert min(blocks) >= 1
    assert is_as_good_as_can_be(blocks, speeds)


def test_three_times_as_fast():
    team = Team([3.0, 1.0])
    assert team.blocks() == [4, 4]
    team.train(1)
    assert team.blocks() == [5, 3]  # one at a time: it may have been chance
    team.train(9)
    assert team.blocks() == [6, 2]
    team.speeds = [1.0, 1.0]
    team.train(9)
    assert team.blocks() == [4, 4]


def test_equal_members_have_equal_shares():
    """As much noise as that is none."""
    team = Team([1.0, 0.9, 1.1], 12)
    team.train(20)
    assert team.blocks() == [4, 4, 4]


def test_where_there_is_no_clock():
    team = Team([1.0, 1e9])
    move(team.plans[0].record, N_BLOCKS)  # as if each had taken no time
    assert team.blocks() == [4, 4]


def test_another_team_begins_anew():
    team = Team([5.0, 1.0, 1.0], 9)
    team.train(9)
    for plan in team.plans:
        plan.set(size=2)
    del team.plans[2], team.speeds[2]
    assert team.blocks() == [4, 5]
    team.train(9)
    assert is_as_good_as_can_be(team.blocks(), team.speeds)


def test_more_members_than_blocks():
    team = Team([5.0, 1.0, 1.0], 2)
    for plan in team.plans:
        work(plan.record, 2, 10)
        move(plan.record, 2)
    assert sum(team.blocks()) == 2
    assert not team.shares[2 * LINE_NUMBERS :].any()


def test_longer_work_takes_more_cycles():
    team = Team([1.0, 1.0])
    for plan, n_numbers in zip(team.plans, (1_000, 3_000_000), strict=True):
        work(plan.record, N_BLOCKS, n_numbers)
    assert 0 <= team.shares[0] <= team.shares[LINE_NUMBERS]


# Training.


@pytest.fixture
def uneven(monkeypatch):
    """Batches that are shared by speed; the first member of two begins with one block."""
    made = []

    def shares(n_blocks):
        made.append(shares_of(n_blocks))
        made[-1][-2 - n_blocks :][:4] = 2, 0, 1, n_blocks
        return made[-1]

    monkeypatch.setattr(layout, "shares_of", shares)
    monkeypatch.setattr(layout, "MOST_BYTES_TO_DEAL", 0)
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("way", WAYS)
def test_fit(way, kind, dtype, uneven):
    """Whole batches of 22 rows, and a short one."""
    alone, _ = fit(1, kind=kind, dtype=dtype, **WAYS[way])
    for n_jobs in (2, 3):
        assert_same_bits(fit(n_jobs, kind=kind, dtype=dtype, **WAYS[way])[0], alone)
    of_batches = [shares for shares in uneven if shares.size == shares_of(11).size]
    if HAS_TILES:
        assert [int(shares[11 * LINE_NUMBERS]) for shares in of_batches] == [2, 2, 3]


def test_fit_with_teams_of_many_sizes(uneven):
    alone, _ = fit(1)
    assert_same_bits(fit(3, pace=Restless)[0], alone)
    assert uneven


@needs_tiles
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fit_by_halves_of_the_features(dtype, uneven):
    """Who is faster takes some rows of the other one's half."""
    options = {"batch_size": 20, "in_parts": True, "dtype": dtype}
    alone, _ = fit(1, **options)
    assert_same_bits(fit(2, **options)[0], alone)
    assert [shares.size // (LINE_NUMBERS + 1) for shares in uneven] == [10, 20] * 2
    if HAS_CLOCK:  # who had 19 blocks of 20 has given some away
        assert all(int(shares[-n]) > 1 for shares, n in zip(uneven[2:], (10, 20), strict=True))


@needs_tiles
def test_parts_have_the_rows_that_they_have(uneven):
    """A member goes on with the gradient of a half of the rows, whoever is faster."""
    options = {"batch_size": 40, "in_parts": True}
    assert_same_bits(fit(2, **options)[0], fit(1, **options)[0])
    assert [shares[: 10 * LINE_NUMBERS].any() for shares in uneven] == [False, False]


def test_objective(uneven):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 30)), rng.integers(0, 3, 90)
    found = []
    for n_jobs in (1, 3):
        with several_threads():
            f = MLPClassifier((24, 20), random_state=0, n_jobs=n_jobs).objective(X, y)
            for _ in range(3):
                terms, grad = f.terms_and_grad(f.x0)
            found.append((terms, grad))
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-14)
    if HAS_TILES:
        n_blocks = uneven[-1].size // (LINE_NUMBERS + 1)
        assert uneven[-1][n_blocks * LINE_NUMBERS] == 3
