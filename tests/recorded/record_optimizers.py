"""Record the paths of PyTorch's optimizers in ``optimizers.npz``.

Open loop: every rule starts from the same parameters and is fed the same 1,000 gradients, which do
not depend on the parameters, so that two implementations can differ by nothing but their rules.

    python tests/recorded/record_optimizers.py

needs PyTorch (recorded with 2.13 on the CPU); the tests themselves read the file alone.
"""

import json
from pathlib import Path

import numpy as np
import torch

N_PARAMETERS = 7
N_STEPS = 1000
STEPS = np.array([1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000])

# The name of every field in fastgd and in PyTorch: a pair is an entry of a tuple.
LEARNING_RATE = {"learning_rate": "lr"}
EPSILON_AND_DECAY = {"epsilon": "eps", "weight_decay": "weight_decay"}
BETAS = {"beta_1": ("betas", 0), "beta_2": ("betas", 1)}
DECOUPLED = {"decoupled_weight_decay": "decoupled_weight_decay"}
ADAM = LEARNING_RATE | BETAS | EPSILON_AND_DECAY
NAMES = {
    "SGD": LEARNING_RATE
    | {name: name for name in ("momentum", "dampening", "nesterov", "weight_decay")},
    "Adagrad": LEARNING_RATE
    | {"learning_rate_decay": "lr_decay", "initial_accumulator": "initial_accumulator_value"}
    | EPSILON_AND_DECAY,
    "Adadelta": LEARNING_RATE | {"rho": "rho"} | EPSILON_AND_DECAY,
    "RMSprop": LEARNING_RATE
    | {"rho": "alpha"}
    | EPSILON_AND_DECAY
    | {"momentum": "momentum", "centered": "centered"},
    "Adam": ADAM | {"amsgrad": "amsgrad"},
    "AdamW": ADAM | {"amsgrad": "amsgrad"},
    "Adamax": ADAM,
    "NAdam": ADAM | {"momentum_decay": "momentum_decay"} | DECOUPLED,
    "RAdam": ADAM | DECOUPLED,
    "Rprop": LEARNING_RATE
    | {
        "eta_minus": ("etas", 0),
        "eta_plus": ("etas", 1),
        "step_size_min": ("step_sizes", 0),
        "step_size_max": ("step_sizes", 1),
    },
    "ASGD": LEARNING_RATE
    | {"decay": "lambd", "power": "alpha", "average_start": "t0", "weight_decay": "weight_decay"},
}

# The values that one field takes while the others stay at their defaults or at BASES.
RATES = {"learning_rate": (0.003, 0.05)}
DECAYS = {"weight_decay": (0.01, 0.2)}
EPSILONS = {"epsilon": (1e-3, 1e-2)}
BETA_VALUES = {"beta_1": (0.8, 0.95), "beta_2": (0.99, 0.95)}
ADAM_VALUES = RATES | BETA_VALUES | EPSILONS | DECAYS
VALUES = {
    "SGD": RATES | {"momentum": (0.5, 0.9), "dampening": (0.3, 0.8), "nesterov": (True,)} | DECAYS,
    "Adagrad": RATES
    | {"learning_rate_decay": (0.01, 0.2), "initial_accumulator": (0.1, 0.7)}
    | EPSILONS
    | DECAYS,
    "Adadelta": {"learning_rate": (0.05, 0.3), "rho": (0.8, 0.95)} | EPSILONS | DECAYS,
    "RMSprop": RATES
    | {"rho": (0.9, 0.95), "momentum": (0.5, 0.9), "centered": (True,)}
    | EPSILONS
    | DECAYS,
    "Adam": ADAM_VALUES | {"amsgrad": (True,)},
    "AdamW": ADAM_VALUES | {"weight_decay": (0.0, 0.2), "amsgrad": (True,)},
    "Adamax": ADAM_VALUES,
    "NAdam": ADAM_VALUES | {"momentum_decay": (1e-3, 0.02), "decoupled_weight_decay": (True,)},
    "RAdam": ADAM_VALUES | {"decoupled_weight_decay": (True,)},
    "Rprop": RATES
    | {
        "eta_minus": (0.4, 0.7),
        "eta_plus": (1.1, 1.4),
        "step_size_min": (1e-4, 1e-3),
        "step_size_max": (0.05, 1.0),
    },
    "ASGD": RATES
    | {"decay": (1e-3, 0.05), "power": (0.5, 0.9), "average_start": (0.0, 10.0)}
    | DECAYS,
}

# The other fields that a field needs in order to matter.
BASES = {
    ("SGD", "dampening"): {"momentum": 0.9},
    ("SGD", "nesterov"): {"momentum": 0.9},
    ("Adam", "amsgrad"): {"beta_2": 0.95},
    ("AdamW", "amsgrad"): {"beta_2": 0.95},
    ("AdamW", "weight_decay"): {"learning_rate": 0.003},
    ("NAdam", "decoupled_weight_decay"): {"weight_decay": 0.2},
    ("RAdam", "decoupled_weight_decay"): {"weight_decay": 0.2},
    ("ASGD", "power"): {"learning_rate": 0.05, "decay": 0.05},
}

ADAM_COMBINED = {
    "learning_rate": 0.003,
    "beta_1": 0.8,
    "beta_2": 0.99,
    "epsilon": 1e-3,
    "weight_decay": 0.05,
}
COMBINED = [
    ("SGD", {"learning_rate": 0.003, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ("SGD", {"learning_rate": 0.003, "momentum": 0.8, "dampening": 0.1, "weight_decay": 0.05}),
    (
        "Adagrad",
        {
            "learning_rate": 0.05,
            "learning_rate_decay": 0.01,
            "weight_decay": 0.05,
            "initial_accumulator": 0.1,
            "epsilon": 1e-3,
        },
    ),
    ("Adadelta", {"learning_rate": 0.3, "rho": 0.95, "epsilon": 1e-3, "weight_decay": 0.05}),
    (
        "RMSprop",
        {
            "learning_rate": 0.003,
            "rho": 0.95,
            "epsilon": 1e-3,
            "weight_decay": 0.05,
            "momentum": 0.8,
            "centered": True,
        },
    ),
    ("Adam", ADAM_COMBINED | {"amsgrad": True}),
    ("AdamW", ADAM_COMBINED | {"amsgrad": True}),
    ("Adamax", ADAM_COMBINED),
    ("NAdam", ADAM_COMBINED | {"momentum_decay": 0.02, "decoupled_weight_decay": True}),
    ("RAdam", ADAM_COMBINED | {"decoupled_weight_decay": True}),
    # So short a memory that the rectification never starts.
    ("RAdam", {"beta_2": 0.6}),
    (
        "Rprop",
        {
            "learning_rate": 0.05,
            "eta_minus": 0.6,
            "eta_plus": 1.3,
            "step_size_min": 1e-4,
            "step_size_max": 0.5,
        },
    ),
    # The first step is longer than the longest one allowed.
    ("Rprop", {"learning_rate": 2.0, "step_size_max": 0.5}),
    (
        "ASGD",
        {
            "learning_rate": 0.05,
            "decay": 0.05,
            "power": 0.5,
            "average_start": 10.0,
            "weight_decay": 0.05,
        },
    ),
]


def plain(value):
    """A bool or a float, whichever number PyTorch keeps."""
    return value if isinstance(value, bool) else float(value)


def defaults_of(rule):
    """The defaults of one of PyTorch's rules under the names of fastgd."""
    parameter = torch.zeros(1, requires_grad=True)
    theirs = getattr(torch.optim, rule)([parameter]).defaults
    ours = {}
    for name, place in NAMES[rule].items():
        value = theirs[place] if isinstance(place, str) else theirs[place[0]][place[1]]
        ours[name] = plain(value)
    return ours


def arguments_of(rule, fields):
    """The arguments of one of PyTorch's rules for fields under the names of fastgd."""
    arguments = {"foreach": False}
    if rule in ("SGD", "Adagrad", "Adam", "AdamW"):
        arguments["fused"] = False
    pairs = {}
    for name, value in (defaults_of(rule) | fields).items():
        place = NAMES[rule][name]
        if isinstance(place, str):
            arguments[place] = value
        else:
            pairs.setdefault(place[0], {})[place[1]] = value
    return arguments | {name: (pair[0], pair[1]) for name, pair in pairs.items()}


def inputs():
    """The first parameters and the gradients: heavy tails, drifts and two runs of zeros."""
    rng = np.random.default_rng(0)
    w0 = rng.normal(size=N_PARAMETERS)
    shape = (N_STEPS, N_PARAMETERS)
    gradients = rng.normal(size=shape) * np.exp(0.5 * rng.normal(size=shape))
    # The last coordinate nearly always keeps its sign.
    gradients += np.array([0.0, 0.3, -0.5, 0.0, 0.1, -1.0, 3.0])
    gradients[:4, 3] = 0.0
    gradients[300:380, 3] = 0.0
    return w0, gradients


def follow(rule, fields, w0, gradients):
    """The parameters after each of STEPS, and ASGD's average (None for other rules)."""
    parameter = torch.tensor(w0, requires_grad=True)
    optimizer = getattr(torch.optim, rule)([parameter], **arguments_of(rule, fields))
    path, average = [], []
    for step, gradient in enumerate(gradients, start=1):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        if step in STEPS:
            path.append(parameter.detach().numpy().copy())
            if rule == "ASGD":
                average.append(optimizer.state[parameter]["ax"].numpy().copy())
    path = np.array(path)
    assert path.dtype == np.float64
    assert np.isfinite(path).all()
    return path, np.array(average) if rule == "ASGD" else None


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    w0, gradients = inputs()
    defaults = {rule: defaults_of(rule) for rule in NAMES}
    cases, arrays = [], {}

    def record(rule, fields):
        assert all(defaults[rule][name] != value for name, value in fields.items())
        key = f"case_{len(cases):03d}"
        path, average = follow(rule, fields, w0, gradients)
        cases.append({"rule": rule, "fields": fields, "key": key})
        arrays[key] = path
        if average is not None:
            arrays[f"{key}_average"] = average
        return path, average

    for rule, fields_of_rule in VALUES.items():
        assert set(fields_of_rule) == set(NAMES[rule])
        record(rule, {})
        for name, values in fields_of_rule.items():
            base = BASES.get((rule, name), {})
            without = follow(rule, base, w0, gradients)
            for value in values:
                path, average = record(rule, base | {name: value})
                if name == "average_start":
                    path, without_path = average, without[1]
                else:
                    without_path = without[0]
                # The field matters: the path ends elsewhere.
                moved = np.abs(path[-1] - without_path[-1]) > 1e-6 * np.abs(path[-1])
                assert moved.any(), (rule, name, value)
        for combined_rule, fields in COMBINED:
            if combined_rule == rule:
                record(rule, fields)

    np.savez_compressed(
        Path(__file__).with_name("optimizers.npz"),
        w0=w0,
        gradients=gradients,
        steps=STEPS,
        cases=np.array(json.dumps(cases)),
        defaults=np.array(json.dumps(defaults)),
        **arrays,
    )


if __name__ == "__main__":
    main()
