"""Record the values and gradients of small networks by PyTorch's autograd in ``gradients.npz``.

Every hidden activation with every loss, with and without sample weights, and what the losses do
with extreme raw outputs.

    python tests/recorded/record_gradients.py

needs PyTorch (recorded with 2.13 on the CPU); the tests themselves read the file alone.
"""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

N_SAMPLES = 6
N_INPUTS = 5
HIDDEN = (4, 3)
ALPHA = 0.3
SEED = 8  # Of the data: one that keeps every sample clear of the kinks.
CLEARANCE = 1e-3  # The least distance of a sample from a kink.

ACTIVATIONS = {
    "identity": lambda x: x,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.01),
    "elu": lambda x: F.elu(x, 1.0),
    "selu": torch.selu,
    # F.softplus becomes the identity above a threshold.
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "silu": F.silu,
    "gelu": F.gelu,
}
PAIRS = [(name, name) for name in ACTIVATIONS] + [("tanh", "gelu")]
WITH_KINKS = {"relu", "leaky_relu", "elu", "selu"}


def pinball(z, y, quantile):
    return torch.maximum(quantile * (y - z), (quantile - 1) * (y - z))


def poisson(z, y):
    return F.poisson_nll_loss(z, y, log_input=True, reduction="none") + torch.xlogy(y, y) - y


def binary(z, y):
    return F.binary_cross_entropy_with_logits(z, y.reshape(z.shape).to(z), reduction="none")


def signs(z, y):
    return (2 * y - 1).reshape(z.shape).to(z)


def others(z, y):
    """The raw outputs with the true class' left out."""
    return z[F.one_hot(y, z.shape[1]) == 0].reshape(len(z), -1)


def own(z, y):
    return z.gather(1, y[:, None])[:, 0]


def crammer_singer(z, y):
    return torch.relu(1 + others(z, y).amax(1) - own(z, y))


def divergence(z, y):
    return F.kl_div(F.log_softmax(z, 1), y, reduction="none")


def residual_kinks(z, y):
    return z - y


def huber_kinks(z, y, delta):
    return (z - y).abs() - delta


def hinge_kinks(z, y):
    return 1 - signs(z, y) * z


def crammer_singer_kinks(z, y):
    first, second = others(z, y).sort(1, descending=True).values.T
    return torch.stack([1 + first - own(z, y), first - second])


# name: (outputs, link, loss of every sample or output, distances from its kinks, fields of cases)
LOSSES = {
    "squared_error": (2, "identity", lambda z, y: 0.5 * (z - y) ** 2, None, [{}]),
    "absolute_error": (2, "identity", lambda z, y: (z - y).abs(), residual_kinks, [{}]),
    "huber": (
        2,
        "identity",
        lambda z, y, delta: F.huber_loss(z, y, reduction="none", delta=delta),
        huber_kinks,
        [{"delta": 1.0}, {"delta": 0.4}],
    ),
    "quantile": (
        2,
        "identity",
        pinball,
        lambda z, y, quantile: z - y,
        [{"quantile": 0.5}, {"quantile": 0.8}],
    ),
    "poisson": (2, "exp", poisson, None, [{}]),
    "binary_log_loss": (1, "sigmoid", binary, None, [{}]),
    "multilabel": (3, "sigmoid", binary, None, [{}]),
    "log_loss": (
        3,
        "softmax",
        lambda z, y: F.cross_entropy(z, y, reduction="none"),
        None,
        [{}],
    ),
    "hinge": (1, "identity", lambda z, y: torch.relu(1 - signs(z, y) * z), hinge_kinks, [{}]),
    "hinge_multiclass": (3, "identity", crammer_singer, crammer_singer_kinks, [{}]),
    "kl_divergence": (3, "softmax", divergence, None, [{}]),
}
LINKS = {
    "identity": lambda z: z,
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "softmax": lambda z: torch.softmax(z, 1),
}


def targets(rng):
    continuous = 1.5 * rng.normal(size=(N_SAMPLES, 2))
    counts = rng.poisson(1.5, size=(N_SAMPLES, 2)).astype(float)
    probabilities = rng.dirichlet(np.ones(3), size=N_SAMPLES)
    probabilities[0] = [0.0, 1.0, 0.0]
    probabilities[3, 2] = 0.0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    codes = np.array([0, 1, 2, 2, 1, 0])
    halves = np.array([0, 1, 1, 0, 1, 0])
    assert (counts == 0).any()
    assert (counts > 1).any()
    return {
        "squared_error": continuous,
        "absolute_error": continuous,
        "huber": continuous,
        "quantile": continuous,
        "poisson": counts,
        "binary_log_loss": halves,
        "multilabel": rng.integers(0, 2, size=(N_SAMPLES, 3)),
        "log_loss": codes,
        "hinge": halves,
        "hinge_multiclass": codes,
        "kl_divergence": probabilities,
    }


def layer_sizes(n_outputs):
    return list(pairwise((N_INPUTS, *HIDDEN, n_outputs)))


def unpack(packed, n_outputs):
    """The weights and biases in a vector of all weights and then all biases."""
    sizes = layer_sizes(n_outputs)
    lengths = [n_in * n_out for n_in, n_out in sizes] + [n_out for _, n_out in sizes]
    parts = packed.split(lengths)
    weights = [part.reshape(size) for part, size in zip(parts[:3], sizes, strict=True)]
    return weights, parts[3:]


def forward(packed, n_outputs, X, names):
    """The raw outputs, and the hidden layers' inputs to the activations that have a kink."""
    weights, biases = unpack(packed, n_outputs)
    before = []
    for name, W, b in zip(names, weights, biases, strict=False):
        X = X @ W + b
        if name in WITH_KINKS:
            before.append(X.detach())
        X = ACTIVATIONS[name](X)
    return X @ weights[-1] + biases[-1], before


def objective(packed, n_outputs, X, names, of_samples, sample_weight):
    z, _ = forward(packed, n_outputs, X, names)
    losses = of_samples(z).reshape(N_SAMPLES, -1).sum(1)
    total = sample_weight.sum()
    penalty = sum((W**2).sum() for W in unpack(packed, n_outputs)[0])
    return (sample_weight * losses).sum() / total + ALPHA / (2 * total) * penalty


def assert_clear(distances, what):
    nearest = distances.abs().min().item()
    assert nearest > CLEARANCE, (what, nearest)


def record_networks(seed=SEED):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N_SAMPLES, N_INPUTS))
    X[rng.random(X.shape) < 0.4] = 0.0
    sample_weight = rng.uniform(0.2, 2.0, size=N_SAMPLES)
    ys = targets(rng)
    arrays = {"X": X, "sample_weight": sample_weight, "alpha": np.array(ALPHA)}
    arrays |= {f"y_{name}": y for name, y in ys.items()}
    rng = np.random.default_rng(1)
    packed = {}
    for n_outputs in (1, 2, 3):
        weights = [0.7 * rng.normal(size=size).ravel() for size in layer_sizes(n_outputs)]
        biases = [0.3 * rng.normal(size=n_out) for _, n_out in layer_sizes(n_outputs)]
        packed[n_outputs] = np.concatenate(weights + biases)
        arrays[f"w_K{n_outputs}"] = packed[n_outputs]

    cases = []
    inputs = torch.tensor(X)
    for names in PAIRS:
        for loss, (n_outputs, link, function, kinks, fields_of_cases) in LOSSES.items():
            y = torch.tensor(ys[loss])
            for fields in fields_of_cases:
                z, before = forward(torch.tensor(packed[n_outputs]), n_outputs, inputs, names)
                for distances in before:
                    assert_clear(distances, (names, n_outputs))
                if kinks is not None:
                    assert_clear(kinks(z, y, **fields), (names, loss, fields))
                output_key = f"case_{len(cases):03d}_output"
                arrays[output_key] = LINKS[link](z).numpy()
                for weighted in (False, True):
                    key = f"case_{len(cases):03d}"
                    w = torch.tensor(packed[n_outputs], requires_grad=True)
                    value = objective(
                        w,
                        n_outputs,
                        inputs,
                        names,
                        lambda z, f=function, y=y, fields=fields: f(z, y, **fields),
                        torch.tensor(sample_weight if weighted else np.ones(N_SAMPLES)),
                    )
                    value.backward()
                    arrays[f"{key}_value"] = value.detach().numpy()
                    arrays[f"{key}_gradient"] = w.grad.numpy()
                    cases.append(
                        {
                            "activation": names,
                            "loss": loss,
                            "loss_fields": fields,
                            "weighted": weighted,
                            "n_outputs": n_outputs,
                            "link": link,
                            "key": key,
                            "output_key": output_key,
                        }
                    )
    return arrays | {"cases": np.array(json.dumps(cases))}


def value_and_derivative(function, z):
    """The values of a function and its derivatives with respect to each entry of z."""
    z = torch.tensor(z, requires_grad=True)
    value = function(z)
    value.sum().backward()
    return value.detach().numpy() + 0.0, z.grad.numpy() + 0.0  # No negative zeros.


def record_extremes():
    z = np.array([-1e4, -750, -100, -40, -25, -1, 0, 1, 25, 40, 100, 750, 1e4])
    arrays = {"extreme_z": z}
    for y in (0, 1):
        # Where they are tiny this form keeps the precision of the value and of the derivative, and
        # PyTorch's own loss loses it.
        value, derivative = value_and_derivative(lambda z, y=y: -F.logsigmoid((2 * y - 1) * z), z)
        check = value_and_derivative(lambda z, y=y: binary(z, torch.full(z.shape, y)), z)
        np.testing.assert_allclose(value, check[0], rtol=1e-15, atol=1e-15)
        np.testing.assert_allclose(derivative, check[1], rtol=0, atol=1e-15)
        arrays[f"extreme_binary_log_loss_y{y}_value"] = value
        arrays[f"extreme_binary_log_loss_y{y}_derivative"] = derivative
    arrays["extreme_sigmoid"] = torch.sigmoid(torch.tensor(z)).numpy()
    value, derivative = value_and_derivative(ACTIVATIONS["softplus"], z)
    arrays["extreme_softplus_value"], arrays["extreme_softplus_derivative"] = value, derivative

    logits = np.stack([np.roll(z, -start)[:3] for start in range(len(z))])
    arrays["extreme_logits"] = logits
    arrays["extreme_softmax"] = torch.softmax(torch.tensor(logits), 1).numpy()
    for y in range(3):
        codes = torch.full((len(logits),), y)
        value, derivative = value_and_derivative(
            lambda z, codes=codes: F.cross_entropy(z, codes, reduction="none"), logits
        )
        arrays[f"extreme_log_loss_y{y}_value"] = value
        arrays[f"extreme_log_loss_y{y}_derivative"] = derivative
    assert all(np.isfinite(array).all() for array in arrays.values())
    return arrays


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    np.savez_compressed(
        Path(__file__).with_name("gradients.npz"), **record_networks(), **record_extremes()
    )


if __name__ == "__main__":
    main()
