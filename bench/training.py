"""How long is a training step, and which share of what the machine can do is that?"""

from __future__ import annotations

import functools

import numpy as np

from bench import floor, peers
from bench.cells import TRAINING, Cell
from bench.pairing import Contest, Run, best_peer, ratio
from bench.table import Table, number, versus

# An L2 penalty that decides where training ends.
LARGE_ALPHA = 10.0
PENALISED = Cell((64, 32, 10), 32, 400, 20)


@functools.lru_cache(maxsize=1)
def contest(cell: Cell) -> Contest:
    """Loss curves of whole fits."""
    return Contest("training", str(cell), cell.steps, peers.runs("training", cell)).check()


def check_penalty(cell: Cell) -> Contest:
    """Whether all minimise with the L2 penalty, whose usual size no loss curve shows."""
    runs = peers.runs("training", cell._replace(alpha=LARGE_ALPHA))

    def last_of(run: Run) -> Run:
        # Before, some penalise an epoch by its last weights and some each batch by its own.
        return lambda: (run()[0][-1],)

    last = {peer: last_of(run) for peer, run in runs.items()}
    return Contest("penalty", str(cell), cell.steps, last).check()


def report() -> None:
    """Microseconds a step of everybody; the best peer; the share of the floor; the loss."""
    others = [peer for peer in peers.present() if peer != "fastgd"]
    columns = [
        "µs a training step",
        "fastgd",
        *others,
        "best peer / fastgd",
        "of the floor",
        "loss",
    ]
    check_penalty(PENALISED)
    table, ratios = Table(columns), {}
    for cell in TRAINING:
        this = contest(cell)
        seconds, loss = this.seconds(), this.runs["fastgd"]()[0][-1]
        step = {peer: float(np.median(s)) / this.steps for peer, s in seconds.items()}
        share = floor.step_seconds(cell) / step["fastgd"]
        table.row(
            cell,
            number(1e6 * step["fastgd"]),
            *(number(1e6 * step[peer]) if peer in step else "—" for peer in others),
            versus(seconds),
            f"{share:.0%}",
            f"{loss:.4g}",
        )
        ratios[str(cell)] = ratio(seconds, best_peer(seconds))[1]
    conclude(ratios)


def conclude(ratios: dict[str, float]) -> None:
    """The geometric mean of the ratios to the best peer, and where a peer is faster."""
    mean = np.exp(np.mean(np.log(list(ratios.values()))))
    print(f"\nGeometric mean of best peer / fastgd over the {len(ratios)} cells: {mean:.2f}.")
    slower = [f"{cell} ({value:.2f})" for cell, value in ratios.items() if value < 1.0]
    print(f"A peer is faster in: {'; '.join(slower) or 'no cell'}.")
