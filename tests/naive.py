"""The formulas as the papers print them: slow, obvious, in plain NumPy.

An activation maps raw values to outputs.  A loss maps raw outputs (N, K) and targets to one value
a sample.  A rule is a generator: it gets a gradient and yields the new parameters.
"""

import itertools

import numpy as np
from scipy.special import erf, log_softmax, xlogy


def _one_hot(y, k):
    return np.eye(k)[np.ravel(y)]


def _rivals(z, y):
    """The largest raw output of a wrong class."""
    return np.where(_one_hot(y, z.shape[1]) == 1, -np.inf, z).max(axis=1)


ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.exp(z) - 1),
    "selu": lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(z) - 1)),
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "gelu": lambda z: z * (1 + erf(z / np.sqrt(2))) / 2,
}

LOSSES = {
    "squared_error": lambda z, y: ((z - y) ** 2 / 2).sum(axis=1),
    "absolute_error": lambda z, y: np.abs(z - y).sum(axis=1),
    "huber": lambda z, y, delta=1.0: np.where(
        np.abs(z - y) <= delta, (z - y) ** 2 / 2, delta * (np.abs(z - y) - delta / 2)
    ).sum(axis=1),
    "quantile": lambda z, y, quantile=0.5: np.where(
        y >= z, quantile * (y - z), (quantile - 1) * (y - z)
    ).sum(axis=1),
    "poisson": lambda z, y: (np.exp(z) - y * z + xlogy(y, y) - y).sum(axis=1),
    "binary_log_loss": lambda z, y: (np.log(1 + np.exp(z)) - y * z).sum(axis=1),
    "categorical_log_loss": lambda z, y: -log_softmax(z, axis=1)[np.arange(len(z)), np.ravel(y)],
    "hinge": lambda z, y: np.maximum(0, 1 - (2 * y - 1) * z).sum(axis=1),
    "categorical_hinge": lambda z, y: np.maximum(
        0, 1 + _rivals(z, y) - z[np.arange(len(z)), np.ravel(y)]
    ),
    "kl_divergence": lambda z, y: (xlogy(y, y) - y * log_softmax(z, axis=1)).sum(axis=1),
}


def sgd(w, learning_rate, momentum, dampening, weight_decay, nesterov, rate_in_velocity):
    v = None
    while True:
        g = (yield w) + weight_decay * w
        if rate_in_velocity:  # scikit-learn's and Keras's form
            v = momentum * (0 if v is None else v) - learning_rate * g
            w = w + (momentum * v - learning_rate * g if nesterov else v)
        else:
            v = g if v is None else momentum * v + (1 - dampening) * g
            w = w - learning_rate * (g + momentum * v if nesterov else v)


def adagrad(w, learning_rate, learning_rate_decay, weight_decay, initial_accumulator, epsilon):
    s, t = initial_accumulator, 0
    while True:
        g = (yield w) + weight_decay * w
        s, t = s + g**2, t + 1
        w = w - learning_rate / (1 + (t - 1) * learning_rate_decay) * g / (np.sqrt(s) + epsilon)


def adadelta(w, learning_rate, rho, epsilon, weight_decay):
    v = u = 0
    while True:
        g = (yield w) + weight_decay * w
        v = rho * v + (1 - rho) * g**2
        change = np.sqrt(u + epsilon) / np.sqrt(v + epsilon) * g
        u = rho * u + (1 - rho) * change**2
        w = w - learning_rate * change


def rmsprop(w, learning_rate, rho, epsilon, weight_decay, momentum, centered):
    v = m = b = 0
    while True:
        g = (yield w) + weight_decay * w
        v, m = rho * v + (1 - rho) * g**2, rho * m + (1 - rho) * g
        root = np.sqrt(np.maximum(v - m**2, 0) if centered else v) + epsilon
        b = momentum * b + g / root
        w = w - learning_rate * b


def adam(
    w, learning_rate, beta_1, beta_2, epsilon, weight_decay, amsgrad, epsilon_hat=False, decoupled=0
):
    m = v = largest = t = 0
    while True:
        g = (yield w) + weight_decay * w
        w, t = w * (1 - learning_rate * decoupled), t + 1
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        largest = np.maximum(largest, v) if amsgrad else v
        if epsilon_hat:
            rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
            w = w - rate * m / (np.sqrt(largest) + epsilon)
        else:
            root = np.sqrt(largest / (1 - beta_2**t)) + epsilon
            w = w - learning_rate * m / (1 - beta_1**t) / root


def adamw(w, learning_rate, beta_1, beta_2, epsilon, weight_decay, amsgrad):
    return adam(w, learning_rate, beta_1, beta_2, epsilon, 0, amsgrad, False, weight_decay)


def adamax(w, learning_rate, beta_1, beta_2, epsilon, weight_decay):
    m = u = t = 0
    while True:
        g = (yield w) + weight_decay * w
        t, m = t + 1, beta_1 * m + (1 - beta_1) * g
        u = np.maximum(beta_2 * u, np.abs(g) + epsilon)
        w = w - learning_rate / (1 - beta_1**t) * m / u


def nadam(
    w, learning_rate, beta_1, beta_2, epsilon, weight_decay, momentum_decay, decoupled_weight_decay
):
    m = v = t = 0
    product = 1
    while True:
        g = yield w
        if decoupled_weight_decay:
            w = w * (1 - learning_rate * weight_decay)
        else:
            g = g + weight_decay * w
        t += 1
        now = beta_1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
        then = beta_1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
        product *= now
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        step = (1 - now) * g / (1 - product) + then * m / (1 - product * then)
        w = w - learning_rate * step / (np.sqrt(v / (1 - beta_2**t)) + epsilon)


def radam(w, learning_rate, beta_1, beta_2, epsilon, weight_decay, decoupled_weight_decay):
    m = v = t = 0
    longest = 2 / (1 - beta_2) - 1
    while True:
        g = yield w
        if decoupled_weight_decay:
            w = w * (1 - learning_rate * weight_decay)
        else:
            g = g + weight_decay * w
        t += 1
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        mean = m / (1 - beta_1**t)
        length = longest - 2 * t * beta_2**t / (1 - beta_2**t)
        if length > 5:
            r = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            mean = mean * np.sqrt(r) * np.sqrt(1 - beta_2**t) / (np.sqrt(v) + epsilon)
        w = w - learning_rate * mean


def rprop(w, learning_rate, eta_minus, eta_plus, step_size_min, step_size_max):
    before, size = 0, learning_rate
    while True:
        g = yield w
        turn = np.sign(g * before)
        factor = np.where(turn > 0, eta_plus, np.where(turn < 0, eta_minus, 1))
        size = np.clip(size * factor, step_size_min, step_size_max)
        before = np.where(turn < 0, 0, g)
        w = w - np.sign(before) * size


def asgd(w, learning_rate, decay, power, average_start, weight_decay):
    eta, t = learning_rate, 0
    while True:
        g = (yield w) + weight_decay * w
        t += 1
        w = (1 - decay * eta) * w - eta * g
        eta = learning_rate / (1 + decay * learning_rate * t) ** power


def lion(w, learning_rate, beta_1, beta_2, weight_decay):
    m = 0
    while True:
        g = yield w
        c = beta_1 * m + (1 - beta_1) * g
        w = w - learning_rate * (np.sign(c) + weight_decay * w)
        m = beta_2 * m + (1 - beta_2) * g


OPTIMIZERS = {
    "sgd": sgd,
    "adagrad": adagrad,
    "adadelta": adadelta,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "rprop": rprop,
    "asgd": asgd,
    "lion": lion,
}


def trajectory(name, w, gradients, fields):
    """The parameters after each gradient, shape (steps, n)."""
    rule = OPTIMIZERS[name](w, **fields)
    next(rule)
    return np.array([rule.send(g) for g in gradients])


def objective(w, sizes, activations, loss, X, y, weight=None, alpha=0.0, **fields):
    """The training objective of a network, from the flat parameter vector."""
    n_weights = sum(n_in * n_out for n_in, n_out in itertools.pairwise(sizes))
    start, bias, a = 0, n_weights, X
    for n_in, n_out, name in zip(sizes[:-1], sizes[1:], [*activations, "identity"], strict=True):
        W = w[start : start + n_in * n_out].reshape(n_in, n_out)
        a = ACTIVATIONS[name](a @ W + w[bias : bias + n_out])
        start, bias = start + n_in * n_out, bias + n_out
    values = LOSSES[loss](a, y, **fields)
    weight = np.ones(len(X)) if weight is None else weight
    return (weight @ values + alpha / 2 * (w[:n_weights] ** 2).sum()) / weight.sum()
