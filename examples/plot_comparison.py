"""Draw the loss curves of a comparison.

fastgd compare --json runs.json
python examples/plot_comparison.py runs.json comparison.png      (needs matplotlib)
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

source, target = sys.argv[1:]
record = json.loads(Path(source).read_text("utf-8"))
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
colors = plt.get_cmap("tab10").colors
for run, color in zip(record["runs"], colors, strict=False):
    n = len(run["loss_curve"])
    style = {
        "color": color,
        "label": run["solver"],
        "linestyle": "-" if run["order"] == 1 else "--",
    }
    passes = [run["n_passes"] * (i + 1) / n for i in range(n)]
    seconds = [run["seconds"] * (i + 1) / n for i in range(n)]
    left.plot(passes, run["loss_curve"], **style)
    right.plot(seconds, run["loss_curve"], **style)
left.set(xlabel="passes over the data", ylabel="training loss", yscale="log", title="by passes")
right.set(xlabel="seconds", xscale="log", title="by time")
left.set_ylim(bottom=1e-4)
figure.legend(*left.get_legend_handles_labels(), loc="outside right center")
figure.suptitle(f"{record['runs'][0]['problem']}, hidden layers {record['hidden']}")
figure.savefig(target, dpi=110)
