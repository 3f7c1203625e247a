"""Inverted dropout: how much falls, that the mean stays, and the way back through the same mask."""

import itertools
import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from fastgd.kernels import dropout as module
from fastgd.kernels.activations import ACTIVATIONS
from fastgd.kernels.dropout import Dropout, dropout_part
from fastgd.kernels.layout import layer_table, n_parameters, parameter_views
from fastgd.kernels.losses import LOSSES
from fastgd.kernels.network import (
    call_losses_and_deltas,
    chunk_gradient,
    total_loss,
    total_weight_of,
)
from fastgd.kernels.parts import NOTHING
from fastgd.kernels.tiles import HAS_TILES
from fastgd.neural_network.problem import Problem, as_data

# The first numbers of SplitMix64 from the seed 1234567, computed apart with Python's integers.
SPLITMIX = (
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
)

N = 20_000
SEEDS = st.integers(0, 2**31 - 2)
RATES = st.floats(0.01, 0.99)


@numba.njit
def drop(dropout, a, rate, step, layer, first=0):
    module.drop(dropout, a, first, rate, step, layer)


@numba.njit
def random_bits(seed, position):
    return module.uniform_32_bits(np.uint64(seed), position)


def test_the_generator_is_splitmix():
    assert [random_bits(1234567, i) for i in range(5)] == [number >> 32 for number in SPLITMIX]


def mask(seed=0, step=0, layer=0, rate=0.5, n=N):
    """Which units stay."""
    a = np.ones(n)
    drop(Dropout(seed), a, rate, step, layer)
    return a != 0


def assert_binomial(count, n, p):
    """Within six standard deviations: a right generator fails once in 10⁹ times."""
    assert abs(count - n * p) <= 6 * math.sqrt(n * p * (1 - p)) + 1


@settings(deadline=None)
@given(seed=SEEDS, rate=RATES, step=st.integers(0, 10**6), layer=st.integers(0, 50))
def test_share_of_zeros_is_the_rate(seed, rate, step, layer):
    kept = mask(seed, step, layer, rate)
    assert_binomial(N - kept.sum(), N, rate)
    # Neighbours, and the two halves of a row, know nothing of each other.
    for distance in (1, 2, 64, N // 2):
        both = (~kept[distance:] & ~kept[:-distance]).sum()
        # Pairs that overlap vary more than independent ones, by less than a factor of √3.
        p = rate**2
        assert abs(both - (N - distance) * p) <= 6 * math.sqrt(3 * N * p * (1 - p)) + 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None)
@given(seed=SEEDS, rate=RATES)
def test_those_that_stay_are_scaled_so_that_the_mean_stays(dtype, seed, rate):
    a = np.random.default_rng(seed).uniform(1.0, 2.0, N).astype(dtype)
    before = a.copy()
    drop(Dropout(seed), a, rate, 0, 0)
    assert a.dtype == dtype
    kept = a != 0
    np.testing.assert_array_equal(kept, mask(seed, rate=rate))
    np.testing.assert_allclose(a[kept], before[kept] / (1 - rate), rtol=2 * np.finfo(dtype).eps)
    deviation = math.sqrt((before.astype(float) ** 2).sum() * rate / (1 - rate)) / N
    assert abs(a.mean(dtype=float) - before.mean(dtype=float)) <= 6 * deviation + 1e-3 / N


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(deadline=None)
@given(seed=SEEDS, rate=RATES, step=st.integers(0, 10**6), layer=st.integers(0, 50))
def test_the_way_back_uses_the_same_mask(dtype, seed, rate, step, layer):
    """Outputs and derivatives are dropped by the same function."""
    rng = np.random.default_rng(seed)
    a, delta = (rng.uniform(1.0, 2.0, 500).astype(dtype) for _ in range(2))
    derivatives = delta.copy()
    drop(Dropout(seed), a, rate, step, layer)
    kept = a != 0
    drop(Dropout(seed), delta, rate, step, layer)
    np.testing.assert_array_equal(delta != 0, kept)
    few = 2.5 * np.finfo(dtype).eps
    np.testing.assert_allclose(delta[kept], derivatives[kept] / (1 - rate), rtol=few)


@settings(deadline=None)
@given(seed=SEEDS, cuts=st.lists(st.integers(0, 500), max_size=4).map(sorted))
def test_threads_that_share_a_batch_draw_one_mask(seed, cuts):
    """Each drops its own part of the outputs; ``first`` says where it begins."""
    whole = np.random.default_rng(seed).uniform(1.0, 2.0, 500)
    pieces = whole.copy()
    drop(Dropout(seed), whole, 0.4, 3, 1)
    for start, stop in itertools.pairwise([0, *cuts, 500]):
        drop(Dropout(seed), pieces[start:stop], 0.4, 3, 1, start)
    np.testing.assert_array_equal(pieces, whole)


def test_masks_differ_by_seed_step_and_layer_and_repeat_otherwise():
    masks = {
        (seed, step, layer): mask(seed, step, layer)
        for seed in (0, 1000, 2**31 - 2)
        for step in (0, 1, 2, 500)
        for layer in (0, 1, 2)
    }
    keys = list(masks)
    for i, key in enumerate(keys):
        np.testing.assert_array_equal(masks[key], mask(*key))
        for other in keys[:i]:
            assert_binomial((masks[key] == masks[other]).sum(), N, 0.5)


def test_a_unit_falls_or_stays_whatever_is_around_it():
    """A pure function of the position: a smaller batch has the beginning of the same mask."""
    np.testing.assert_array_equal(mask(n=777), mask()[:777])
    # A higher rate drops more, and those of the lower rate among them.
    assert (mask(rate=0.3) | ~mask(rate=0.7)).all()


def test_without_a_rate_nothing_is_touched():
    a = np.random.default_rng(0).normal(size=100)
    before = a.copy()
    drop(Dropout(5), a, 0.0, 3, 1)
    np.testing.assert_array_equal(a, before)


@numba.njit
def run_network(plans, cut, step, with_gradient):
    """As in the mini-batch loop, with a mask that stays, and with the rows in two shares."""
    plan = plans[0]
    n = plan.n_samples
    scale = 1.0 / total_weight_of(plan, 0, n)
    call_losses_and_deltas(plan.losses_and_deltas, plan, 0, 0, cut, scale, step, with_gradient)
    call_losses_and_deltas(plan.losses_and_deltas, plan, 0, cut, n, scale, step, with_gradient)
    if with_gradient:
        for chunk in range(plan.n_chunks):
            chunk_gradient(plan, chunk, 0, n, 0.0, plan.w, False)
    return total_loss(plan, n)


def network_with_dropout(layers, X, y, dropout):
    """The mean loss as a function of parameters, step, and room for the gradient if wanted."""
    loss = LOSSES["squared_error"]()
    problem = Problem(layers, loss, 0.0, as_data(X, y, None), len(X), X.dtype)
    plan = problem.plan(len(X), gather=False).set(dropout=dropout)

    def value(w, step, cut=0, grad=None):
        plan.set(w=w, **({} if grad is None else {"grad": grad}))
        return run_network(plan.record, cut, step, grad is not None)

    return value


def masked_objective(w, layers, activations, rates, X, y, seed, step):
    """The network in plain NumPy; the masks come from ``drop``, which has its own tests."""
    coefs, intercepts = parameter_views(w, layers)
    a = X
    for l, (name, rate) in enumerate(zip(activations, rates, strict=True)):
        a = naive.ACTIVATIONS[name](a @ coefs[l] + intercepts[l])
        scaled = np.ones(a.size)
        drop(Dropout(seed), scaled, rate, step, l)
        a = a * scaled.reshape(a.shape)
    return naive.LOSSES["squared_error"](a @ coefs[-1] + intercepts[-1], y).mean()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS, step=st.integers(0, 10**6))
def test_gradient_of_a_network_with_dropout(activation, seed, step):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 5)), rng.normal(size=(8, 2))
    # Beside one that keeps its raw values, and with a layer that drops nothing.
    activations, rates = (activation, "gelu", activation), (0.4, 0.0, 0.25)
    layers = layer_table((5, 6, 4, 5, 2), activations, rates)
    value = network_with_dropout(layers, X, y, dropout_part(Dropout(seed), X.dtype))
    w = rng.normal(size=n_parameters(layers))
    grad, in_shares = np.empty_like(w), np.empty_like(w)
    expected = masked_objective(w, layers, activations, rates, X, y, seed, step)
    assert math.isclose(value(w, step, 0, grad), expected, rel_tol=1e-12)
    numeric = np.empty_like(w)
    for i in range(w.size):
        e = np.zeros_like(w)
        e[i] = 1e-6
        numeric[i] = (value(w + e, step) - value(w - e, step)) / 2e-6
    assert np.abs(numeric - grad).max() <= 1e-6 * np.abs(grad).max()
    value(w, step, 3, in_shares)
    # The bits of products by BLAS depend on the number of rows.
    np.testing.assert_allclose(in_shares, grad, rtol=0, atol=0 if HAS_TILES else 1e-12)


def test_rates_without_masks_drop_nothing():
    """So does a prediction: the rates are in the table, but nobody is called."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8, 5)), rng.normal(size=(8, 2))
    tables = [layer_table((5, 6, 2), ("silu",), rates) for rates in ((), (0.4,))]
    w = rng.normal(size=n_parameters(tables[0]))
    results = []
    for table, part in itertools.product(tables, (NOTHING, dropout_part(Dropout(1), X.dtype))):
        grad = np.empty_like(w)
        value = network_with_dropout(table, X, y, part)
        results.append([value(w, 0, 0, grad), *grad])
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])
    assert np.abs(np.subtract(results[3], results[0])).max() > 0.01, "no mask was drawn at all"
