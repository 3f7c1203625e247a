"""Where everything lies: the layer table, the flat parameter vector, the workspace."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd.kernels.activations import ACTIVATIONS, NEEDS_RAW
from fastgd.kernels.layout import layer_table, make_workspace, n_parameters, parameter_views
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
@given(networks(), st.integers(1, 5), st.booleans())
def test_units_fill_the_workspace_exactly(network, batch_size, gather):
    sizes, activations = network
    layers = layer_table(sizes, activations)
    y = np.zeros((9, sizes[-1]), np.float32)
    work = make_workspace(layers, batch_size, np.float32, y, gather)
    used = np.zeros(work.units.size, int)
    for layer, name in zip(layers, (*activations, "identity"), strict=True):
        for place in ("outputs", "raw") if name in NEEDS_RAW else ("outputs",):
            start = layer[place] * batch_size
            used[start : start + layer["n_out"] * batch_size] += 1
        assert (layer["raw"] >= 0) == (name in NEEDS_RAW)
    assert (used == 1).all()
    assert work.delta.size == work.delta_below.size == batch_size * max(sizes[1:])
    assert work.x.size == (batch_size * sizes[0] if gather else 0)
    assert work.y.size == batch_size * sizes[-1]
    assert work.weight.tolist() == [1.0] * batch_size
    arrays = [a for a in work if isinstance(a, np.ndarray)]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


def test_dropout_belongs_to_hidden_layers():
    table = layer_table((3, 4, 5, 2), ("relu", "tanh"), (0.1, 0.2))
    assert table["dropout"].tolist() == [0.1, 0.2, 0.0]
    assert layer_table((3, 4, 2), ("relu",))["dropout"].tolist() == [0.0, 0.0]


def test_unknown_activation():
    with pytest.raises(KeyError, match="swoosh"):
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
