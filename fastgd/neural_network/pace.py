"""How much to ask of the kernels at once, and with how many threads: learned while they run."""

from __future__ import annotations

SLICE_SECONDS = 0.1
TRIAL_SECONDS = 0.02
SLICES_BEFORE_FIRST_TRIAL = 3
# By what is in use: a short trial of the faster way costs nothing.
SLICES_BETWEEN_TRIALS = {"alone": 5, "together": 20}

# A team of threads must beat a single one by so much: its processors could do other work.
WORTH = 0.85


class Pace:
    """Chooses the next slice of batches: its length, and the number of threads.

    The result of a training does not depend on the number of threads, so it can follow the
    machine: where other programs keep the processors busy, threads that wait for each other twice
    a batch are slower than one alone.  Now and then the choice that is not in use is tried again.

    Parameters
    ----------
    most_threads : int
    """

    def __init__(self, most_threads: int) -> None:
        self._most = most_threads
        self._seconds: dict[int, float] = {}  # of a batch, by number of threads
        self._until_trial = SLICES_BEFORE_FIRST_TRIAL
        # One thread for the first batch: several would all wait for the same compilation.
        self.n_threads, self.n_batches = 1, 1
        self._is_first = True

    def learn(self, n_threads: int, n_batches: int, seconds: float) -> None:
        """A slice has run; decide on the next one."""
        seconds = max(seconds, 1e-9)
        self.n_batches = int(min(max(SLICE_SECONDS * n_batches / seconds, 1), 64 * n_batches))
        if self._is_first:
            # It holds the compilation, so it says little.
            self._is_first = False
            self.n_threads = self._most
        else:
            self._seconds[n_threads] = seconds / n_batches
            self._choose_threads()

    def _choose_threads(self) -> None:
        if self._most == 1:
            return
        alone, together = (self._seconds.get(n, 0.0) for n in (1, self._most))
        best = 1 if 0.0 < alone * WORTH < together else self._most
        self._until_trial -= 1
        if self._until_trial < 0:
            self._until_trial = SLICES_BETWEEN_TRIALS["alone" if best == 1 else "together"]
            best = 1 if best > 1 else self._most
            known = self._seconds.get(best, together)
            self.n_batches = int(max(TRIAL_SECONDS / known, 1)) if known else 1
        self.n_threads = best
