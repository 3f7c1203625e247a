"""Let networks that are too small for several threads use them, and see that they do."""

import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastgd import _threads
from fastgd.kernels import layout
from fastgd.kernels.team import together
from fastgd.neural_network import epochs, prediction
from fastgd.neural_network.pace import Pace
from fastgd.solvers import objective


def n_threads_in_the_end(at_most=None):
    """Threads of this process, those of libraries among them; waits for some that are ending."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        pytest.skip("this system does not tell")
    end = time.monotonic() + 10.0
    while (n := len(list(tasks.iterdir()))) > (at_most or n) and time.monotonic() < end:
        time.sleep(0.01)
    return n


class AlwaysTogether(Pace):
    """Never goes back to one thread, however slow several of them are."""

    def learn(self, *args):
        super().learn(*args)
        self.n_threads = self._most


class Restless(Pace):
    """Another number of threads for each slice of one batch or a few."""

    def learn(self, *args):
        super().learn(*args)
        self._slices = getattr(self, "_slices", 0) + 1
        self.n_threads, self.n_batches = 1 + self._slices % self._most, 1 + self._slices % 3


@contextmanager
def derivatives_in_panels(patch, wide=1):
    """Pack the derivatives of layers from so many units on, for many small chunks."""
    patch.setattr(layout, "WIDE", wide)
    patch.setattr(layout, "LEAST_INPUTS", 1)
    patch.setattr(layout, "ROWS_BY_PANELS", 1)
    patch.setattr(layout, "ROWS_OF_A_WIDE_LAYER", 1)
    layout.layer_table.cache_clear()
    try:
        yield
    finally:
        layout.layer_table.cache_clear()


@contextmanager
def several_threads(pace=AlwaysTogether, in_parts=False):
    """Up to four threads, whatever is worth it, for many small chunks of the parameters.

    ``in_parts`` adds what two halves of the features give, or the gradients of two parts of a
    batch, where that is less to exchange.

    Gives the list of the sizes of the teams that come together.
    """
    sizes = []

    def noted(kernel, plans, size, *arguments, **options):
        sizes.append(size)
        return together(kernel, plans, size, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_threads, "_n_processors", lambda: 4)
        patch.setattr(layout, "CHUNK_PARAMETERS", 64)
        patch.setattr(layout, "ROW_MULTIPLE", 12)
        patch.setattr(layout, "WORTH_PARTS", 1 if in_parts else 10**12)
        patch.setattr(layout, "WORTH_DEALING", 1)
        patch.setattr(layout, "ROWS_OF_A_THREAD", 1)
        patch.setattr(layout, "LOSS_ROWS", 2)
        patch.setattr(epochs, "LEAST_A_STEP", 1)
        patch.setattr(epochs, "LEAST_TO_START_A_THREAD", 1)
        patch.setattr(epochs, "Pace", pace)
        for module in (prediction, objective):
            patch.setattr(module, "LEAST_A_PASS", 1)
        for module in (epochs, prediction, objective):
            patch.setattr(module, "together", noted)
        yield sizes
