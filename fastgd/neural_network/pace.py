"""How much to ask of the kernels at once, and with how many threads: learned while they run."""

from __future__ import annotations

from collections import deque

SLICE_SECONDS = 0.1
TRIAL_SECONDS = 0.005
# The first slice after the number of threads has changed has the start of threads in it, and caches
# in which nothing is yet: up to half a millisecond, which counts little from the length of a trial
# on.  A shorter slice tells nothing, so a trial begins with a very short one, which is left out.
WARM_UP_SECONDS = 0.001
# A slice has at most so many times the batches of the one before, which may have been a short one.
GROWTH = 64
# What one thread alone does before others are started, which takes some tenths of a millisecond,
# and milliseconds on a busy machine: a call of ``partial_fit`` may be over before.
SECONDS_BEFORE_A_TEAM = 0.001

# Until the way that is not in use is tried: for the first time, and then again.
SECONDS_AT_FIRST, SECONDS_TOGETHER, SECONDS_ALONE = 0.02, 2.0, 0.5
# Where batches are long, each batch of a trial may take such a share of the time at most.
SHARE_OF_TRIALS = 0.01

# A team of threads must beat a single one by so much: its processors could do other work.
WORTH = 0.9
# Of so many slices the fastest counts: what disturbs one seldom disturbs all of them.
RECENT = 5


class Pace:
    """Chooses the next slice of batches: its length, and the number of threads.

    The result of a training does not depend on the number of threads, so it can follow the
    machine: where other programs keep the processors busy, threads that wait for each other twice
    a batch are slower than one alone.  Now and then the way that is not in use is tried.

    Parameters
    ----------
    most_threads : int
    compiles : bool
        Whether the first slice may have to compile, or to load from disk: it then says little
        about time, and several threads would all wait for the same.
    long_batches : bool
        Whether a single batch is worth the start of a thread.
    """

    def __init__(self, most_threads: int, compiles: bool, long_batches: bool) -> None:
        self._most, self._compiles = most_threads, compiles
        self._at_first = most_threads if long_batches else 1
        self._seconds_alone = 0.0 if long_batches else SECONDS_BEFORE_A_TEAM
        # Of a batch, by number of threads, in the last slices.
        self._seconds: dict[int, deque[float]] = {}
        self._wait, self._since_trial = SECONDS_AT_FIRST, 0.0
        self.n_threads, self.n_batches = (1 if compiles else self._at_first), 1
        self._n_before = 1  # threads of the slice before
        self._uncounted: set[int] = set()  # numbers of threads whose last slice did not count

    def learn(self, n_threads: int, n_batches: int, seconds: float) -> None:
        """A slice has run, perhaps with fewer threads than chosen; decide on the next one."""
        seconds = max(seconds, 1e-9)

        def batches_of(wanted: float) -> int:
            return int(min(max(wanted * n_batches / seconds, 1), GROWTH * n_batches))

        self.n_batches = batches_of(SLICE_SECONDS)
        if self._most == 1:
            return
        if self._compiles:
            self._compiles = False
            self.n_threads, self.n_batches = self._at_first, 1
            return
        self._since_trial += seconds
        is_first, self._n_before = n_threads != self._n_before, n_threads
        # Once: where fits take threads from each other, each slice may be the first.
        if is_first and seconds < TRIAL_SECONDS and n_threads not in self._uncounted:
            self._uncounted.add(n_threads)
            self.n_batches = batches_of(TRIAL_SECONDS)
            return
        self._uncounted.discard(n_threads)
        recent = self._seconds.setdefault(n_threads, deque(maxlen=RECENT))
        recent.append(seconds / n_batches)
        self._seconds_alone -= seconds
        if self._seconds_alone > 0.0:
            self.n_batches = batches_of(self._seconds_alone)
        else:
            self._choose_threads(seconds / n_batches)

    def _choose_threads(self, batch_seconds: float) -> None:
        best_seconds = {number: min(recent) for number, recent in self._seconds.items()}
        alone, together = best_seconds.get(1), best_seconds.get(self._most)
        is_better = alone is None or together is None or together < WORTH * alone
        best, other = (self._most, 1) if is_better else (1, self._most)
        self.n_threads = best
        if self._since_trial < max(self._wait, self._most * batch_seconds / SHARE_OF_TRIALS):
            return
        self.n_threads = other
        self.n_batches = int(max(WARM_UP_SECONDS / best_seconds.get(other, batch_seconds), 1))
        self._wait, self._since_trial = SECONDS_TOGETHER if is_better else SECONDS_ALONE, 0.0
