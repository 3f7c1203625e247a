"""Record products of Hessians with a direction by PyTorch's double backward in ``hessians.npz``.

The networks, the samples and the losses are those of ``gradients.npz``.

    python tests/recorded/record_hessians.py

needs PyTorch (recorded with 2.13 on the CPU); the tests themselves read the file alone.
"""

import json
from pathlib import Path

import numpy as np
import torch
from record_gradients import LOSSES, N_SAMPLES, objective

FOLDER = Path(__file__).parent


def product(case, recorded, direction):
    """The Hessian of one network's objective, times the direction."""
    n_outputs, loss = case["n_outputs"], case["loss"]
    function, y = LOSSES[loss][2], torch.tensor(recorded[f"y_{loss}"])
    weight = recorded["sample_weight"] if case["weighted"] else np.ones(N_SAMPLES)
    w = torch.tensor(recorded[f"w_K{n_outputs}"], requires_grad=True)
    value = objective(
        w,
        n_outputs,
        torch.tensor(recorded["X"]),
        case["activation"],
        lambda z: function(z, y, **case["loss_fields"]),
        torch.tensor(weight),
    )
    (gradient,) = torch.autograd.grad(value, w, create_graph=True)
    return torch.autograd.grad(gradient @ torch.tensor(direction), w)[0].numpy()


def record():
    recorded = np.load(FOLDER / "gradients.npz")
    rng = np.random.default_rng(2)
    arrays = {f"v_K{k}": rng.normal(size=recorded[f"w_K{k}"].shape) for k in (1, 2, 3)}
    for case in json.loads(str(recorded["cases"])):
        direction = arrays[f"v_K{case['n_outputs']}"]
        arrays[f"{case['key']}_product"] = product(case, recorded, direction)
    return arrays


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    np.savez_compressed(FOLDER / "hessians.npz", **record())


if __name__ == "__main__":
    main()
