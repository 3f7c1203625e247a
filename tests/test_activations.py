"""Activations where arithmetic is special; what they are elsewhere is tested with networks."""

import numba
import numpy as np
import pytest

from fastgd.kernels.activations import ACTIVATIONS, LEAKY_SLOPE, activation_addresses
from fastgd.kernels.parts import call_activate, call_activate_backward

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SIZE = 77  # some whole registers of any processor, and a rest
INF = np.inf


@numba.njit
def activate(address, z):
    call_activate(address, z)


@numba.njit
def activate_backward(address, a, raw, delta):
    call_activate_backward(address, a, raw, delta)


@BOTH
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_a_nan_stays_one_and_alone(name, dtype):
    """Or a network that diverged would go unseen."""
    forward, _ = activation_addresses(name, np.dtype(dtype))
    for place in range(SIZE):
        for sign in (1.0, -1.0):
            z = np.linspace(-3, 3, SIZE, dtype=dtype)
            z[place] = np.copysign(dtype(np.nan), dtype(sign))
            activate(forward, z)
            assert np.flatnonzero(np.isnan(z)).tolist() == [place]


@BOTH
@pytest.mark.parametrize(
    ("name", "below", "at_minus_inf", "slope_below"),
    [
        ("relu", lambda z: 0 * z, 0, lambda a: 0 * a),
        ("leaky_relu", lambda z: LEAKY_SLOPE * z, -INF, lambda a: LEAKY_SLOPE + 0 * a),
        ("elu", np.expm1, -1, lambda a: a + 1),
    ],
)
def test_the_pieces_of_an_activation(name, below, at_minus_inf, slope_below, dtype):
    """Above 0 nothing changes, by not one bit; no infinity becomes a NaN."""
    info = np.finfo(dtype)
    positive = np.array([info.smallest_normal, 1e-3, 1, 50, info.max, INF], dtype)
    negative = np.array([-info.smallest_normal, -1e-3, -1, -50], dtype)
    z = np.concatenate([[0, -0.0, -INF], negative, positive]).astype(dtype)
    z = np.tile(z, 5)
    a, delta = z.copy(), np.full(z.size, 3, dtype)
    forward, backward = activation_addresses(name, np.dtype(dtype))
    activate(forward, a)
    activate_backward(backward, a, z, delta)
    expected = np.where(z < 0, 0, z)
    expected[np.isneginf(z)] = at_minus_inf
    finite = (z < 0) & np.isfinite(z)
    expected[finite] = below(z[finite])
    np.testing.assert_allclose(a, expected, rtol=4 * info.eps, atol=0)
    np.testing.assert_array_equal(a[z > 0], z[z > 0])
    assert (delta[z > 0] == 3).all()
    np.testing.assert_allclose(delta[finite], 3 * slope_below(expected[finite]), rtol=4 * info.eps)
