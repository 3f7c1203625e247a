"""Functions of two numbers with known minima, written so that PyTorch can differentiate them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Objective(NamedTuple):
    """A function, its gradient by hand, where to begin, and the minimum if there is one."""

    fun: Callable[..., Any]
    jac: Callable[..., Any]
    x0: tuple[float, float]
    minimum: tuple[float, float] | None


def rosenbrock(p):
    x, y = p
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def rosenbrock_jac(p):
    x, y = p
    return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])


def beale(p):
    x, y = p
    return sum((c - x + x * y**k) ** 2 for k, c in enumerate((1.5, 2.25, 2.625), start=1))


def beale_jac(p):
    x, y = p
    terms = [(k, c - x + x * y**k) for k, c in enumerate((1.5, 2.25, 2.625), start=1)]
    return np.array(
        [
            sum(2 * r * (y**k - 1) for k, r in terms),
            sum(2 * r * k * x * y ** (k - 1) for k, r in terms),
        ]
    )


def himmelblau(p):
    x, y = p
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def himmelblau_jac(p):
    x, y = p
    a, b = x**2 + y - 11, x + y**2 - 7
    return np.array([4 * x * a + 2 * b, 2 * a + 4 * y * b])


def saddle(p):
    x, y = p
    return x**2 - y**2


def saddle_jac(p):
    x, y = p
    return np.array([2 * x, -2 * y])


def quadratic(condition, axis, x0=(3.0, 1.0), minimum=(1.0, -2.0)):
    """Half a squared distance, stretched across the axis, a vector of length 1."""
    c, s = axis

    def turned(p):
        x, y = p[0] - minimum[0], p[1] - minimum[1]
        return c * x + s * y, c * y - s * x

    def fun(p):
        u, v = turned(p)
        return (u**2 + condition * v**2) / 2

    def jac(p):
        u, v = turned(p)
        return np.array([c * u - s * condition * v, s * u + c * condition * v])

    return Objective(fun, jac, x0, minimum)


OBJECTIVES = {
    "rosenbrock": Objective(rosenbrock, rosenbrock_jac, (-1.2, 1.0), (1.0, 1.0)),
    "beale": Objective(beale, beale_jac, (1.0, 1.0), (3.0, 0.5)),
    "himmelblau": Objective(himmelblau, himmelblau_jac, (1.0, 1.0), (3.0, 2.0)),
    "saddle": Objective(saddle, saddle_jac, (1.0, 0.01), None),
    "quadratic_1e2": quadratic(1e2, axis=(0.6, 0.8)),
    # Along a coordinate, since most rules look at each by itself.
    "quadratic_1e4": quadratic(1e4, axis=(1.0, 0.0)),
}
