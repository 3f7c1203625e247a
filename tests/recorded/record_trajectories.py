"""Record 20 steps of PyTorch's optimizers on known functions in ``trajectories.npz``.

Closed loop: each gradient is PyTorch's own, at the point to which the steps before have led.

    PYTHONPATH=tests python tests/recorded/record_trajectories.py

needs PyTorch (recorded with 2.13 on the CPU); the tests themselves read the file alone.
"""

import json
from pathlib import Path

import numpy as np
import torch
from record_optimizers import arguments_of

from objectives import OBJECTIVES

N_STEPS = 20

# With these, 20 steps are stable on every function: the steepest has the curvature 10,000.
GENTLE = {"learning_rate": 1e-4}
USUAL = {"learning_rate": 0.05}
RULES = [
    ("SGD", GENTLE),
    ("SGD", {"learning_rate": 2e-5, "momentum": 0.9}),
    ("SGD", {"learning_rate": 2e-5, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", USUAL),
    ("Adadelta", {"learning_rate": 1.0, "epsilon": 1e-3}),
    ("RMSprop", USUAL),
    ("RMSprop", {"learning_rate": 0.005, "centered": True, "momentum": 0.5}),
    ("Adam", USUAL),
    ("Adam", USUAL | {"amsgrad": True}),
    ("AdamW", USUAL | {"weight_decay": 0.1}),
    ("Adamax", USUAL),
    ("NAdam", USUAL),
    ("RAdam", GENTLE),
    ("Rprop", USUAL),
    ("ASGD", GENTLE),
    ("ASGD", GENTLE | {"average_start": 5.0}),
]


def follow(rule, fields, objective):
    """The points after each step, and the average that ASGD keeps (None for other rules)."""
    x = torch.tensor(objective.x0, requires_grad=True)
    optimizer = getattr(torch.optim, rule)([x], **arguments_of(rule, fields))
    path = []
    for _ in range(N_STEPS):
        optimizer.zero_grad()
        objective.fun(x).backward()
        optimizer.step()
        path.append(x.detach().numpy().copy())
    path = np.array(path)
    assert path.dtype == np.float64
    assert np.abs(path).max() < 10
    return path, optimizer.state[x]["ax"].numpy() if rule == "ASGD" else None


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    cases, arrays = [], {}
    for rule, fields in RULES:
        for name, objective in OBJECTIVES.items():
            key = f"case_{len(cases):03d}"
            cases.append({"rule": rule, "fields": fields, "objective": name, "key": key})
            arrays[key], average = follow(rule, fields, objective)
            if average is not None:
                arrays[f"{key}_average"] = average
    path = Path(__file__).with_name("trajectories.npz")
    np.savez_compressed(path, cases=np.array(json.dumps(cases)), **arrays)


if __name__ == "__main__":
    main()
