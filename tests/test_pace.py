"""Whether a fit finds out how many threads are worth it, on machines made of numbers."""

import pytest

from fastgd.neural_network.pace import RECENT, SECONDS_ALONE, SECONDS_TOGETHER, SLICE_SECONDS, Pace

SECONDS = 2.0
EPOCH = 200  # batches, which no slice goes beyond


def train(
    batch_seconds, start_seconds=0.0, long_batches=False, seconds=SECONDS, epoch=EPOCH,
    last=1.0, granted=lambda n, number: n,
):  # fmt: skip
    """Train on a machine: seconds of a batch by number of threads, and of a change of the number.

    The last batch of an epoch has a share of the rows of the others.  ``granted`` says how many
    threads slice ``number`` gets.  Returns the slices as (time when they ended, threads, batches,
    seconds).
    """
    pace = Pace(2, compiles=False, long_batches=long_batches)
    now, done, before, slices = 0.0, 0, 1, []
    while now < seconds:
        n_threads = granted(pace.n_threads, len(slices))
        n_batches = min(pace.n_batches, epoch - done % epoch)
        rows = n_batches - (1.0 - last) * ((done + n_batches) % epoch == 0)
        taken = rows * batch_seconds(n_threads, now)
        taken += start_seconds * (n_threads != before)
        now, done, before = now + taken, done + n_batches, n_threads
        slices.append((now, n_threads, n_batches, taken))
        pace.learn(n_threads, n_batches, taken)
    return slices


def share_of_time(slices, n_threads, since=0.0):
    """How much of the time after ``since`` so many threads have."""
    seconds = {True: 0.0, False: 0.0}
    for now, n, _, taken in slices:
        if now > since:
            seconds[n == n_threads] += taken
    return seconds[True] / sum(seconds.values())


@pytest.mark.parametrize("batch_seconds", [3e-6, 3e-5, 3e-4, 3e-3, 3e-2])
@pytest.mark.parametrize(("gain", "best"), [(0.6, 2), (0.8, 2), (0.95, 1), (1.5, 1)])
def test_the_number_of_threads_that_is_worth_it_has_most_of_the_time(batch_seconds, gain, best):
    seconds = max(SECONDS, 1000 * batch_seconds)  # trials of long batches are rare
    slices = train(
        lambda n, now: batch_seconds * (gain if n == 2 else 1.0),
        start_seconds=5e-4,
        long_batches=batch_seconds > 1e-4,
        seconds=seconds,
    )
    assert share_of_time(slices, best, since=seconds / 2) > 0.95


def test_what_a_team_needs_to_start_does_not_count_against_it():
    """The start takes longer than what the first slices gain."""
    slices = train(lambda n, now: 3e-5 if n == 1 else 2.2e-5, start_seconds=1e-3)
    assert [n for _, n, *_ in slices[:6]].count(1) <= 4  # the first millisecond
    assert share_of_time(slices, 2) > 0.97


def test_a_fit_goes_back_to_one_thread_when_the_machine_becomes_busy():
    busy_from = SECONDS_TOGETHER
    slices = train(
        lambda n, now: 3e-5 if n == 1 else (2e-5 if now < busy_from else 6e-5),
        seconds=busy_from + 2.0,
    )
    slow = RECENT * EPOCH * 6e-5  # the slices that count are all of the busy machine
    assert share_of_time(slices, 1, since=busy_from + 2 * slow) > 0.9


def test_a_team_is_tried_again_when_the_machine_may_be_idle_once_more():
    slices = train(lambda n, now: 3e-5 if n == 1 else (6e-5 if now < 0.3 else 2e-5))
    first = next(now for now, n, *_ in slices if n == 2 and now > 0.3)
    assert first < 0.3 + 2 * SECONDS_ALONE
    assert share_of_time(slices, 2, since=first) > 0.9


@pytest.mark.parametrize("batch_seconds", [0.01, 0.1, 1.0])
def test_trials_of_long_batches_are_rare(batch_seconds):
    slices = train(
        lambda n, now: batch_seconds * (1.0 if n == 2 else 1.9), long_batches=True, seconds=60.0
    )
    assert share_of_time(slices, 1) < 0.05


def test_no_slice_is_long_after_a_last_batch_of_few_rows():
    """Python, and with it Ctrl-C, has its turn between two slices."""
    slices = train(
        lambda n, now: 2e-3 * (0.6 if n == 2 else 1.0), long_batches=True, seconds=60.0,
        epoch=1000, last=0.005,
    )  # fmt: skip
    assert max(taken for *_, taken in slices) < 3 * SLICE_SECONDS


def test_fits_that_take_threads_from_each_other_find_out_as_well():
    """Each slice has another number of threads than the one before."""
    slices = train(
        lambda n, now: 3e-5 * n, epoch=50, granted=lambda n, number: min(n, 1 + number % 2)
    )
    assert share_of_time(slices, 1, since=SECONDS / 2) > 0.9
