"""The figures of a comparison, by hand and by what has to hold for any costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd.comparison.statistics import (
    LARGEST_RATIO,
    Verdict,
    band,
    compare_pair,
    data_profile,
    first_cost,
    median_cost,
    performance_profile,
    values_at,
)

INF, NAN = np.inf, np.nan


# Curves and costs.


@pytest.mark.parametrize(
    ("costs", "values", "expected"),
    [
        ([0, 1, 2], [9, 5, 3], [9, 9, 5, 3, 3]),
        ([0, 1, 2], [9, 3, 5], [9, 9, 3, 3, 3]),  # what was reached once stays reached
        ([0, 1, 2], [9, NAN, 5], [9, 9, 9, 5, 5]),
        ([0, 1, 1], [9, 7, 3], [9, 9, 3, 3, 3]),
        ([1], [4], [NAN, NAN, 4, 4, 4]),
    ],
)
def test_lowest_value_up_to_a_cost(costs, values, expected):
    grid = np.array([0.0, 0.5, 1.0, 2.0, 1e9])
    np.testing.assert_array_equal(values_at(costs, values, grid), expected)


def test_band_is_made_of_given_values():
    curves = np.array([[5.0, INF], [1.0, INF], [4.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    np.testing.assert_array_equal(band(curves), [[1, 1], [3, 3], [4, INF]])


def test_the_middle_of_a_band_is_the_worse_of_two():
    """As in the medians of costs, which miss where half of the seeds do."""
    curves = np.array([[5.0, INF], [1.0, INF], [4.0, 1.0], [2.0, 2.0]])
    np.testing.assert_array_equal(band(curves)[1], [4, INF])
    assert median_cost(curves[:, 1].tolist()) == INF


def test_band_of_a_single_seed_is_its_curve():
    curve = np.array([[3.0, 2.0, INF]])
    np.testing.assert_array_equal(band(curve), np.repeat(curve, 3, axis=0))


@pytest.mark.parametrize(
    ("target", "cost"), [(1.0, 0.0), (0.5, 2.0), (0.2, 5.0), (0.1, 5.0), (0.05, INF)]
)
def test_first_cost_at_which_a_gap_is_reached(target, cost):
    gaps = [1.0, INF, 0.4, 0.9, NAN, 0.1]
    assert first_cost(range(6), gaps, target) == cost


@pytest.mark.parametrize(
    ("costs", "median"),
    [
        ([], INF), ([7], 7), ([3, 1, 2], 2), ([1, 2, INF], 2), ([1, INF, INF], INF),
        ([INF, INF], INF), ([1, INF], INF), ([1, 2, 3, INF, INF, INF], INF),
        ([1, 2, 3, 4, 4, INF, INF], 4),
    ],
)  # fmt: skip
def test_median_cost_is_infinite_where_at_least_half_missed(costs, median):
    assert median_cost(costs) == median


# Profiles.


def share_at(profile, solver, x):
    """The step function of a profile at some x."""
    return profile.shares[solver][np.searchsorted(profile.x, x, side="right") - 1]


COSTS = {
    "a": np.array([1.0, 2.0, 6.0, INF]),
    "b": np.array([2.0, 1.0, 2.0, INF]),
    "c": np.array([1.0, INF, 3.0, INF]),
}


@pytest.mark.parametrize(
    ("solver", "shares"),
    [
        # Ratios to the best: 1 2 3 ∞, 2 1 1 ∞ and 1 ∞ 1.5 ∞.
        ("a", {1: 1 / 4, 1.9: 1 / 4, 2.1: 2 / 4, 2.9: 2 / 4, 3.1: 3 / 4, 16: 3 / 4}),
        ("b", {1: 2 / 4, 1.9: 2 / 4, 2.1: 3 / 4, 16: 3 / 4}),
        ("c", {1: 1 / 4, 1.4: 1 / 4, 1.6: 2 / 4, 16: 2 / 4}),
    ],
)
def test_performance_profile_by_hand(solver, shares):
    profile = performance_profile(COSTS)
    assert {x: share_at(profile, solver, x) for x in shares} == shares


def test_area_by_hand():
    """Of "a": 1/4 up to 2, 2/4 up to 3, 3/4 up to 4, on a log scale."""
    exact = np.log([2, 3 / 2, 4 / 3]) @ [1 / 4, 2 / 4, 3 / 4] / np.log(LARGEST_RATIO)
    assert LARGEST_RATIO == 4
    # As near as a grid of so many points can tell.
    assert abs(performance_profile(COSTS, 4000).area["a"] - exact) < 1e-3


def test_profile_changes_with_the_company_but_that_of_a_pair_does_not():
    pair = {name: COSTS[name] for name in "ab"}
    company = pair | {"best": np.full(4, 0.5)}
    assert performance_profile(company).area["a"] < performance_profile(pair).area["a"]
    again = performance_profile({name: company[name] for name in "ab"})
    assert again.area == performance_profile(pair).area


def test_order_of_two_may_turn_with_a_third():
    """Why profiles of pairs are offered (Gould and Scott 2016)."""
    two = {"a": np.array([1.0, 1.0, 5.0]), "b": np.array([2.1, 2.1, 1.0])}
    third = {"c": np.array([0.2, 0.2, 1.0])}
    before, after = performance_profile(two), performance_profile(two | third)
    assert before.area["a"] > before.area["b"]
    assert after.area["a"] < after.area["b"]


@st.composite
def costs_of_solvers(draw):
    n_solvers, n_instances = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    cost = st.one_of(st.floats(1e-3, 1e6), st.integers(1, 4).map(float), st.just(INF))
    rows = st.lists(cost, min_size=n_instances, max_size=n_instances)
    return {f"s{i}": np.array(draw(rows)) for i in range(n_solvers)}


@given(costs_of_solvers())
def test_profiles_are_shares_that_grow(costs):
    for profile in (performance_profile(costs), data_profile(costs)):
        assert (np.diff(profile.x) > 0).all()
        for name, share in profile.shares.items():
            assert share.shape == profile.x.shape
            assert (np.diff(share) >= 0).all()
            assert share[0] >= 0
            assert share[-1] <= np.isfinite(costs[name]).mean()  # misses never count
    assert all(0 <= area <= 1 for area in performance_profile(costs).area.values())


@given(costs_of_solvers())
def test_identical_solvers_tie(costs):
    profile = performance_profile(costs | {"twin": costs["s0"].copy()})
    np.testing.assert_array_equal(profile.shares["s0"], profile.shares["twin"])
    assert profile.area["s0"] == profile.area["twin"]


@given(costs_of_solvers())
def test_best_everywhere_has_area_one(costs):
    lowest = np.minimum.reduce([*costs.values()])
    winner = np.where(np.isfinite(lowest), lowest, 1.0)
    assert performance_profile(costs | {"winner": winner}).area["winner"] == 1


@given(costs_of_solvers())
def test_some_solver_is_best_where_one_is_solved(costs):
    at_one = sum(share[0] for share in performance_profile(costs).shares.values())
    solved = np.isfinite(np.minimum.reduce([*costs.values()])).mean()
    assert at_one >= solved - 1e-12


@given(costs_of_solvers(), st.integers(-8, 8))
def test_performance_profile_has_no_unit(costs, exponent):
    """Powers of two, so that ratios are the same to the last bit."""
    scaled = {name: 2.0**exponent * row for name, row in costs.items()}
    assert performance_profile(scaled).area == performance_profile(costs).area


@given(costs_of_solvers(), st.randoms())
def test_order_of_instances_does_not_matter(costs, random):
    order = list(range(costs["s0"].size))
    random.shuffle(order)
    turned = {name: row[order] for name, row in costs.items()}
    for name, share in performance_profile(turned).shares.items():
        np.testing.assert_allclose(share, performance_profile(costs).shares[name], atol=1e-12)


def test_nobody_solves_anything():
    costs = {"a": np.full(3, INF), "b": np.full(3, INF)}
    for profile in (performance_profile(costs), data_profile(costs)):
        assert all(not share.any() for share in profile.shares.values())
    assert performance_profile(costs).area == {"a": 0, "b": 0}


def test_cost_zero_is_the_best():
    profile = performance_profile({"a": np.array([0.0]), "b": np.array([0.0])})
    assert profile.area == {"a": 1, "b": 1}
    profile = performance_profile({"a": np.array([0.0]), "b": np.array([1.0])})
    assert profile.area == {"a": 1, "b": 0}


def test_data_profile_by_hand():
    profile = data_profile(COSTS)
    assert (profile.x[0], profile.x[-1]) == pytest.approx((1, 6))
    assert share_at(profile, "a", 1) == 1 / 4
    assert share_at(profile, "a", 2.1) == 2 / 4
    assert profile.shares["a"][-1] == 3 / 4
    assert profile.shares["c"][-1] == 2 / 4


@given(costs_of_solvers())
def test_data_profile_of_a_solver_depends_on_its_own_costs(costs):
    """At its end all that was ever solved is counted."""
    for name, share in data_profile(costs).shares.items():
        assert share[-1] == np.isfinite(costs[name]).mean()


# Two solvers.

cost_lists = st.lists(st.floats(1e-2, 1e4), min_size=2, max_size=12).map(np.array)


@given(cost_lists)
def test_a_solver_ties_with_itself(costs):
    verdict = compare_pair(costs, costs.copy(), 100.0)
    assert verdict == Verdict(1, 1, 1)
    assert verdict.winner == -1


@given(st.lists(st.tuples(st.floats(1, 100), st.floats(1, 100)), min_size=2, max_size=12))
@settings(max_examples=30)
def test_exchanging_two_solvers_turns_the_verdict_round(pairs):
    first, second = np.array(pairs).T
    one, other = compare_pair(first, second, 100.0), compare_pair(second, first, 100.0)
    expected = 1 / other.ratio, 1 / other.high, 1 / other.low
    np.testing.assert_allclose(one, expected, rtol=1e-9)
    assert one.low <= one.ratio <= one.high


def test_clear_difference_is_found_and_no_difference_is_not():
    rng = np.random.default_rng(0)
    seeds = np.exp(rng.normal(size=10))  # which are of different difficulty for both
    noise = np.exp(0.1 * rng.normal(size=10))
    clear = compare_pair(seeds, 2 * seeds * noise, 100.0)
    assert clear.winner == 0
    assert clear.low < 2 < clear.high
    assert compare_pair(2 * seeds * noise, seeds, 100.0).winner == 1
    assert compare_pair(seeds, seeds * np.tile([0.7, 1 / 0.7], 5), 100.0).winner == -1


def test_ratio_is_the_geometric_mean():
    verdict = compare_pair(np.array([1.0, 1.0]), np.array([2.0, 8.0]), 100.0)
    assert verdict.ratio == pytest.approx(4)


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [
        ([INF, INF], [INF, INF], 1),
        ([10, 10], [INF, INF], 20),  # a miss counts as twice the budget
        ([10, INF], [10, INF], 1),
        ([0, 0], [0, 0], 1),
    ],
)
def test_misses_of_a_pair(first, second, ratio):
    verdict = compare_pair(np.array(first, float), np.array(second, float), 100.0)
    assert verdict.ratio == pytest.approx(ratio)
    assert np.isfinite(verdict).all()


def test_one_seed_shows_nothing():
    """There is no spread to judge by."""
    assert compare_pair(np.array([1.0]), np.array([1.1]), 100.0).winner == -1


@pytest.mark.parametrize("n_seeds", [3, 5, 10, 30])
def test_interval_covers_the_truth(n_seeds):
    """In 95 % of simulated comparisons, up to what so many of them can tell and a little more."""
    rng, ratio, n = np.random.default_rng(1), 1.5, 600
    difficulty = np.exp(rng.normal(size=(n, n_seeds)))
    others = ratio * difficulty * np.exp(0.5 * rng.normal(size=(n, n_seeds)))
    verdicts = [compare_pair(a, b, 1e9) for a, b in zip(difficulty, others, strict=True)]
    covered = np.mean([v.low <= ratio <= v.high for v in verdicts])
    assert abs(covered - 0.95) < 3 * np.sqrt(0.95 * 0.05 / n)


def test_verdicts_repeat():
    first, second = np.random.default_rng(2).uniform(1, 2, (2, 10))
    assert compare_pair(first, second, 100.0) == compare_pair(first, second, 100.0)
