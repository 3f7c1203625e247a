"""Where everything lies: the layer table, the flat parameter vector, chunks, the buffers."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd.kernels import layout
from fastgd.kernels.activations import ACTIVATIONS, NEEDS_RAW
from fastgd.kernels.layout import (
    chunk_bounds,
    layer_table,
    make_room_for_gradient,
    n_parameters,
    network_plan,
    parameter_views,
    plan_of_helper,
    set_for_training,
)
from fastgd.kernels.samples import has_products_for_amx
from fastgd.neural_network.problem import flat_parameters

WIDTHS = st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple)


@st.composite
def networks(draw):
    sizes = draw(WIDTHS)
    names = st.sampled_from(sorted(ACTIVATIONS))
    return sizes, tuple(draw(names) for _ in sizes[1:-1])


@settings(deadline=None)
@given(networks())
def test_parameters_fill_the_vector_exactly(network):
    sizes, activations = network
    layers = layer_table(sizes, activations)
    n = n_parameters(layers)
    w = np.zeros(n)
    coefs, intercepts = parameter_views(w, layers)
    assert [a.shape for a in coefs] == list(itertools.pairwise(sizes))
    assert [a.shape for a in intercepts] == [(size,) for size in sizes[1:]]
    for view in (*coefs, *intercepts):
        view += 1
    assert (w == 1).all(), "a parameter belongs to no view, or to two"
    # scikit-learn's order: all weights, then all biases; the penalty needs the weights in front.
    w[:] = np.arange(n)
    packed = np.concatenate([a.ravel() for a in (*coefs, *intercepts)])
    assert (packed == w).all()
    assert layers[0]["biases"] == sum(a.size for a in coefs)


@settings(deadline=None)
@given(networks(), st.integers(1, 5), st.booleans(), st.booleans())
def test_units_fill_the_buffers_exactly(network, rows, gather, drops):
    sizes, activations = network
    rates = (0.5, 0.0, 0.25)[: len(activations)] if drops else ()
    layers = layer_table(sizes, activations, rates)
    plan = network_plan(layers, np.float32, rows)
    set_for_training(plan, sizes[-1], np.float32, sizes[0] * gather)
    units, deltas = np.zeros(plan["units"].size, int), np.zeros(plan["delta"].size, int)
    names = (*activations, "identity")
    for layer, name, rate in zip(layers, names, (*rates, 0.0, 0.0, 0.0, 0.0), strict=False):
        present = {"outputs": True, "raw": name in NEEDS_RAW, "undropped": rate > 0.0}
        for place, is_there in present.items():
            assert (layer[place] >= 0) == is_there
            if is_there:
                start = layer[place] * rows
                units[start : start + layer["n_out"] * rows] += 1
        start = layer["deltas"] * rows
        deltas[start : start + layer["n_out"] * rows] += 1
    assert (units == 1).all(), "a unit has no place, or two have the same"
    assert (deltas == 1).all()
    assert plan["x"].size == (rows * sizes[0] if gather else 0)
    assert plan["targets"].size == rows * sizes[-1]
    assert plan["weights"].size == rows
    assert plan["ones"].tolist() == [1.0] * rows
    arrays = [plan[name] for name in ("x", "units", "delta", "targets", "weights")]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("dtype", "words"), [(np.float32, 3), (np.float64, 6), (np.int64, 6)])
def test_targets_are_counted_in_words(dtype, words):
    plan = set_for_training(network_plan(LAYERS, np.float32, 4), 3, dtype, 0)
    assert plan.record[0]["target_words"] == words


def test_a_plan_takes_no_numbers_of_another_precision():
    """Kernels would take them for their own, and read beyond their end."""
    plan = network_plan(LAYERS, np.float32, 4).set(w=np.zeros(13, np.float32))
    with pytest.raises(TypeError, match="w must be of float32, got float64"):
        plan.set(w=np.zeros(13))
    assert plan["w"].dtype == np.float32


def test_a_team_shares_all_but_its_rooms():
    """Two threads in one room would overwrite each other's packed rows."""
    plan = set_for_training(network_plan(LAYERS, np.float64, 4), 2, np.float64, 0)
    plans = [plan, plan_of_helper(plan), plan_of_helper(plan)]
    records = [plan.record[0] for plan in plans]
    for name in records[0].dtype.names:
        places = {record[name].item() for record in records}
        assert len(places) == (3 if name in ("panel", "packed") else 1), name
    assert plans[0]["losses"].size * plans[0]["loss_rows"] >= 4


@pytest.mark.parametrize(
    ("at_once", "n_parts", "kept"), [(True, 1, False), (True, 2, True), (False, 1, True)]
)
def test_the_gradient_is_kept_where_it_is_needed_as_a_whole(at_once, n_parts, kept):
    layers = layer_table((784, 256, 10), ("relu",))
    plan = set_for_training(network_plan(layers, np.float32, 4), 1, np.int64, 0)
    make_room_for_gradient(plan.set(at_once=at_once, n_parts=n_parts))
    plans = [plan, plan_of_helper(plan), plan_of_helper(plan)]
    records = [plan.record[0] for plan in plans]
    assert len({record["grad"].item() for record in records}) == 1
    assert len({record["piece"].item() for record in records}) == (1 if kept else 3)
    if kept:
        assert records[0]["piece"] == 0
        assert plans[0]["grad"].size == n_parameters(layers)
    else:
        lengths = np.diff(chunk_bounds(layers))
        assert lengths.size > 1
        assert {plan["piece"].size for plan in plans} == {lengths.max()}


@st.composite
def wide_networks(draw):
    """Sizes around those of a chunk, of which there may be many; and how large chunks are."""
    widths = st.one_of(st.integers(1, 40), st.integers(1, 700))
    sizes = draw(st.lists(widths, min_size=2, max_size=5).map(tuple))
    return sizes, draw(st.sampled_from([1, 64, 1_000, 16_384])), draw(st.sampled_from([12, 96]))


@settings(deadline=None)
@given(wide_networks())
def test_chunks_cut_the_parameters_between_rows(drawn):
    sizes, chunk_parameters, chunk_rows = drawn
    layers = layer_table(sizes, ("tanh",) * (len(sizes) - 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "CHUNK_PARAMETERS", chunk_parameters)
        patch.setattr(layout, "ROW_MULTIPLE", chunk_rows)
        bounds = chunk_bounds(layers)
    assert bounds.dtype == np.int64
    assert bounds[0] == 0
    assert bounds[-1] == n_parameters(layers)
    assert (np.diff(bounds) > 0).all()
    for cut in bounds[1:-1]:
        inside = [
            layer for layer in layers
            if layer["weights"] <= cut < layer["weights"] + layer["n_in"] * layer["n_out"]
        ]  # fmt: skip
        # The only cut that is in no matrix is the one before the first bias.
        assert inside or cut == layers[0]["biases"]
        assert all((cut - layer["weights"]) % layer["n_out"] == 0 for layer in inside)


def test_chunks_are_of_a_size_that_is_worth_its_own_turn():
    """A large network is cut, a tiny one is not, and nobody gets a handful of parameters."""
    bounds = chunk_bounds(layer_table((784, 256, 10), ("relu",)))
    assert 6 <= bounds.size - 1 <= 2 * 784 * 256 // layout.CHUNK_PARAMETERS
    assert np.diff(bounds).min() >= layout.CHUNK_PARAMETERS // 2
    for sizes in ((4, 8, 3), (64, 32, 10)):
        assert chunk_bounds(layer_table(sizes, ("relu",))).size == 2


@pytest.mark.parametrize("sizes", [(64, 64, 10), (8, 64, 64, 2), (784, 256, 128, 10)])
def test_two_threads_have_the_same_to_do(sizes):
    bounds = chunk_bounds(layer_table(sizes, ("relu",) * (len(sizes) - 2)))
    n_chunks, n = bounds.size - 1, bounds[-1]
    assert n_chunks % 2 == 0
    assert abs(bounds[n_chunks // 2] - n / 2) < 0.05 * n


def test_dropout_belongs_to_hidden_layers():
    table = layer_table((3, 4, 5, 2), ("relu", "tanh"), (0.1, 0.2))
    assert table["dropout"].tolist() == [0.1, 0.2, 0.0]
    assert layer_table((3, 4, 2), ("relu",))["dropout"].tolist() == [0.0, 0.0]


def test_unknown_activation():
    with pytest.raises((KeyError, ValueError), match="swoosh"):
        layer_table((3, 4, 2), ("swoosh",))


SIZES = (3, 4, 2)
LAYERS = layer_table(SIZES, ("relu",))
N = n_parameters(LAYERS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_untouched_views_give_their_vector_back(dtype):
    w = np.arange(N, dtype=dtype)
    assert flat_parameters(*parameter_views(w, LAYERS), SIZES) is w


def replace_first(coefs, intercepts):
    coefs[0] = coefs[0] + 0.0


def replace_last_bias(coefs, intercepts):
    intercepts[-1] = intercepts[-1].copy()


def unpickle(coefs, intercepts):
    coefs[:], intercepts[:] = pickle.loads(pickle.dumps((coefs, intercepts)))


def deep_copy(coefs, intercepts):
    coefs[:], intercepts[:] = copy.deepcopy((coefs, intercepts))


def reverse_a_view(coefs, intercepts):
    # Starts elsewhere in the same memory.
    intercepts[0] = intercepts[0][::-1]


def turn_a_view(coefs, intercepts):
    # Starts at the same place of the same memory, but runs through it in another order.
    coefs[0] = coefs[0].base[: coefs[0].size].reshape(coefs[0].shape[::-1]).T


def into_fortran_order(coefs, intercepts):
    coefs[1] = np.asfortranarray(coefs[1])


def into_lists(coefs, intercepts):
    coefs[:] = [a.tolist() for a in coefs]


def views_of_another_vector(coefs, intercepts):
    other = np.concatenate([a.ravel() for a in (*coefs, *intercepts)]) * 2
    intercepts[:] = parameter_views(other, LAYERS)[1]


@pytest.mark.parametrize(
    "change",
    [
        replace_first,
        replace_last_bias,
        unpickle,
        deep_copy,
        reverse_a_view,
        turn_a_view,
        into_fortran_order,
        into_lists,
        views_of_another_vector,
    ],
)
def test_anything_else_is_packed_anew(change):
    w = np.random.default_rng(0).normal(size=N)
    coefs, intercepts = parameter_views(w, LAYERS)
    change(coefs, intercepts)
    packed = flat_parameters(coefs, intercepts, SIZES)
    assert not np.shares_memory(packed, w)
    assert packed.shape == (N,)
    assert packed.flags.c_contiguous
    for a, b in zip(
        (*coefs, *intercepts), (x for part in parameter_views(packed, LAYERS) for x in part),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(a, b)


def test_changed_in_place_is_still_the_vector():
    w = np.zeros(N)
    coefs, intercepts = parameter_views(w, LAYERS)
    coefs[1][2, 1] = 5.0
    assert flat_parameters(coefs, intercepts, SIZES) is w
    assert w.sum() == 5.0


@pytest.mark.parametrize(
    "change",
    [
        lambda coefs, intercepts: coefs.append(np.zeros((2, 2))),
        lambda coefs, intercepts: coefs.pop(),
        lambda coefs, intercepts: coefs.reverse(),
        lambda coefs, intercepts: intercepts.reverse(),
        lambda coefs, intercepts: coefs.__setitem__(0, coefs[0].T),
        lambda coefs, intercepts: coefs.__setitem__(0, coefs[0].ravel()),
    ],
)
def test_wrong_shapes_are_named(change):
    coefs, intercepts = parameter_views(np.zeros(N), LAYERS)
    change(coefs, intercepts)
    with pytest.raises(ValueError, match=r"ask for \[\(3, 4\), \(4, 2\), \(4,\), \(2,\)\]"):
        flat_parameters(coefs, intercepts, SIZES)


@pytest.mark.parametrize(
    ("sizes", "rows", "expected"),
    [
        ((2048, 64, 2), 384, True),
        ((2048, 64, 2), 383, False),
        ((2047, 64, 2), 384, False),
        ((2100, 63, 2), 384, False),
        # The gradient, whose sums are over the rows.
        ((5, 64, 2), 2048, True),
        ((5, 64, 2), 2047, False),
        ((5, 63, 2), 3000, False),
        ((64, 32, 10), 5000, False),
        # Fewer rows, and half a million weights.
        ((8192, 64, 2), 256, True),
        ((8192, 64, 2), 255, False),
        ((8191, 64, 2), 256, False),
        ((10, 2048, 10), 256, False),
    ],
)
def test_networks_with_products_for_a_matrix_unit(sizes, rows, expected):
    layers = layer_table(sizes, ("relu",) * (len(sizes) - 2))
    assert has_products_for_amx(layers, rows) is expected
