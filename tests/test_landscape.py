"""Pictures of descent: paths are those of the solvers, planes are what they are said to be."""

import matplotlib
import numpy as np
import pytest
import scipy.optimize

from fastgd.comparison.landscape import (
    LANDSCAPES,
    filter_directions,
    function_surface,
    network_surface,
    principal_directions,
)
from fastgd.comparison.picture import save
from fastgd.comparison.problems import PROBLEMS
from fastgd.kernels.layout import parameter_views
from fastgd.optimizers import SGD

matplotlib.use("Agg")


@pytest.mark.parametrize("name", LANDSCAPES)
def test_functions_know_their_gradient_and_their_minimum(name):
    landscape = LANDSCAPES[name]
    rng = np.random.default_rng(0)
    for x in rng.uniform(-1, 1, (5, 2)):
        error = scipy.optimize.check_grad(landscape.fun, landscape.grad, x)
        assert error < 1e-4 * (1 + np.linalg.norm(landscape.grad(x)))
    left, right, bottom, top = landscape.box
    inside = rng.uniform([left, bottom], [right, top], (2_000, 2))
    assert min(map(landscape.fun, inside)) >= landscape.lowest


def test_a_path_is_that_of_the_rule():
    surface = function_surface("valley", SGD(learning_rate=0.01), n_steps=20)
    (points,) = surface.paths.values()
    x = np.array(LANDSCAPES["valley"].start)
    for point in points:
        np.testing.assert_allclose(point, x, rtol=1e-12)
        x = x - 0.01 * LANDSCAPES["valley"].grad(x)
    assert points.shape == (21, 2)


def test_values_belong_to_their_places():
    surface = function_surface("beale", "lbfgs", n_steps=3)
    fun = LANDSCAPES["beale"].fun
    for i, j in ((0, 0), (3, 150), (160, 20)):
        assert surface.values[j, i] == fun(np.array([surface.a[i], surface.b[j]]))


@pytest.mark.parametrize("directions", ["pca", "filter"])
def test_the_network_lies_on_its_plane(directions):
    surface = network_surface(
        "iris-tanh", "adam,lbfgs", directions=directions, n_steps=10, n_grid=5
    )
    # The first solver's last point is where the two directions begin.
    np.testing.assert_allclose(surface.paths["adam"][-1], 0.0, atol=1e-9)
    assert np.isfinite(surface.values).all()
    assert surface.values.shape == (5, 5)
    assert set(surface.paths) == {"adam", "lbfgs"}
    for points in surface.paths.values():
        assert points[:, 0].min() >= surface.a[0]
        assert points[:, 0].max() <= surface.a[-1]


def test_principal_directions_hold_most_of_the_variation():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 2)) @ rng.normal(size=(2, 9))
    directions, shares = principal_directions(points)
    np.testing.assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(points @ directions.T @ directions, points, atol=1e-9)
    np.testing.assert_allclose(shares.sum(), 1.0)


def test_filter_directions_are_as_long_as_each_units_weights():
    objective = PROBLEMS["digits-tanh"].at(0).objective
    directions = filter_directions(objective.x0, objective.layers, np.random.default_rng(0))
    own, _ = parameter_views(objective.x0, objective.layers)
    for direction in directions:
        weights, biases = parameter_views(direction, objective.layers)
        for mine, its in zip(weights, own, strict=True):
            np.testing.assert_allclose(
                np.linalg.norm(mine, axis=0), np.linalg.norm(its, axis=0), rtol=1e-12
            )
        assert not any(bias.any() for bias in biases)


@pytest.mark.parametrize(
    ("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("gif", b"GIF89a")]
)
def test_files(suffix, begins, tmp_path):
    file = tmp_path / f"picture.{suffix}"
    save([function_surface("saddle", "lbfgs", n_steps=3)], file)
    assert file.read_bytes().startswith(begins)
    assert not matplotlib.pyplot.get_fignums()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: function_surface("moon"), r"function must be one of rosenbrock.*got 'moon'"),
        (lambda: network_surface("rosenbrock"), r"problem must be one network, got 'rosenbrock'"),
        (lambda: network_surface("small"), r"problem must be one network, got 'small'"),
        (lambda: network_surface(directions="x"), r"directions must be one of .*got 'x'"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("solver", ["newton-cg", "trust-krylov", "newton"])
def test_solvers_that_ask_for_second_derivatives(solver):
    """They get differences of the gradient, good enough for a valley."""
    paths = function_surface("valley", solver, n_steps=20).paths
    np.testing.assert_allclose(paths[solver][-1], 0.0, atol=1e-6)


def test_a_solver_that_does_not_call_back_is_stopped():
    surface = function_surface("saddle", "dual-annealing", n_steps=5)
    assert len(surface.paths["dual-annealing"]) <= 6


def test_paths_that_do_not_move():
    with pytest.raises(ValueError, match="No path moves in 2 steps"):
        network_surface("iris-tanh", SGD(0.0), n_steps=2)
