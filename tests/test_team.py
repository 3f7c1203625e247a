"""Teams of threads: what the members agree on, how a team ends, and how many threads there are.

What could hang runs in a process of its own, which a watchdog ends.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import joblib
import numba
import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgd import MLPClassifier, MLPRegressor, _threads
from fastgd._threads import allowed_threads, quiet_blas, reserved, threads_worth
from fastgd.kernels import team as module
from fastgd.kernels.plan import Plan
from fastgd.kernels.team import (
    CHUNKS,
    HALVES,
    ROWS,
    Helpers,
    barrier,
    most_or_rest,
    next_piece,
    share,
    together,
)
from fastgd.kernels.tiles import HAS_TILES
from threads import n_threads_in_the_end

WATCHDOG_SECONDS = 150
ROOT = Path(__file__).parents[1]

needs_tiles = pytest.mark.skipif(not HAS_TILES, reason="where products are BLAS's there is no team")


def run_script(code, **environment):
    """Run a script; the last line that it printed, as JSON."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=WATCHDOG_SECONDS)
    except subprocess.TimeoutExpired:
        # With its children, which would wait for ever.
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, out + err
    return json.loads(out.splitlines()[-1])


@numba.njit(nogil=True)
def deal_out(plans, n_rounds, n_pieces, counts, wrong):
    """Count who takes which piece; after each barrier everybody checks the whole round."""
    plan = plans[0]
    for r in range(n_rounds):
        piece = next_piece(plan, -1, n_pieces, r)
        while piece < n_pieces:
            counts[plan.rank, r, piece] += 1
            piece = next_piece(plan, piece, n_pieces, r)
        if not barrier(plan):
            return -1
        for p in range(n_pieces):
            total = 0
            for rank in range(plan.size):
                total += counts[rank, r, p]
            if total != 1:
                wrong[plan.rank] += 1
    return plan.rank


def team(size):
    return [Plan(np.float64) for _ in range(size)]


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("n_pieces", [1, 3, 40])
def test_each_piece_is_taken_once_in_each_round(size, n_pieces):
    """A barrier that lets somebody on too early would show a piece that nobody has yet."""
    n_rounds = 150
    counts, wrong = np.zeros((size, n_rounds, n_pieces), np.int64), np.zeros(size, np.int64)
    assert together(deal_out, team(size), size, n_rounds, n_pieces, counts, wrong) == 0
    assert (counts.sum(axis=0) == 1).all()
    assert not wrong.any()


def test_a_team_may_be_smaller_than_its_plans_and_used_again():
    plans = team(4)
    for size in (2, 4, 1, 3):
        counts, wrong = np.zeros((size, 20, 5), np.int64), np.zeros(size, np.int64)
        assert together(deal_out, plans, size, 20, 5, counts, wrong) == 0
        assert (counts.sum(axis=0) == 1).all()


@numba.njit(nogil=True)
def deal_out_kinds(plans, n_rounds, counts):
    """Pieces of several kinds, one kind after the other without a barrier."""
    plan = plans[0]
    for r in range(n_rounds):
        for kind in (CHUNKS, ROWS, HALVES):
            n_pieces = 3 + 2 * kind
            piece = next_piece(plan, -1, n_pieces, r, kind)
            while piece < n_pieces:
                counts[kind, r, piece] += 1
                piece = next_piece(plan, piece, n_pieces, r, kind)
        if not barrier(plan):
            return


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_kinds_of_pieces_are_counted_apart(size):
    counts = np.zeros((3, 100, 7), np.int64)
    together(deal_out_kinds, team(size), size, 100, counts)
    for kind in range(3):
        n_pieces = 3 + 2 * kind
        assert (counts[kind, :, :n_pieces] == 1).all()
        assert (counts[kind, :, n_pieces:] == 0).all()


@numba.njit
def both(lo, hi, block):
    return most_or_rest(lo, hi, block, 4), most_or_rest(lo, hi, block, 5)


@settings(deadline=None)  # the first example compiles
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 40))
def test_most_of_some_rows_and_the_rest(start, n, block):
    lo = start * block
    most, rest = both(lo, lo + n, block)
    assert most[0] == lo
    assert most[1] == rest[0]
    assert rest[1] == lo + n
    assert (rest[0] - lo) % block == 0 or rest[0] == rest[1]
    n_blocks = -(-n // block)
    assert -(-(rest[1] - rest[0]) // block) == n_blocks // 4


@numba.njit(nogil=True)
def write_shares(plans, out, parts):
    lo, hi = share(plans[0], out.size, 1)
    out[lo:hi] += 1
    parts[plans[0].rank, 0], parts[plans[0].rank, 1] = lo, hi


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 100])
def test_shares_cover_everything_evenly(size, n):
    out, parts = np.zeros(n, np.int64), np.zeros((size, 2), np.int64)
    together(write_shares, team(size), size, out, parts)
    assert (out == 1).all()
    lengths = parts[:, 1] - parts[:, 0]
    assert lengths.max() - lengths.min() <= 1


def test_short_parts_are_claimed_line_by_line(monkeypatch):
    lines = []
    monkeypatch.setattr(module, "_write_again", lines.append)
    claim = getattr(module.claim, "py_func", module.claim)
    stop = 1000 + module.MOST_BYTES_TO_CLAIM
    claim(SimpleNamespace(size=2), 1000, stop)
    assert lines == list(range(1024, stop - 7, 64))
    lines.clear()
    claim(SimpleNamespace(size=2), 1000, stop + 1)
    claim(SimpleNamespace(size=1), 1000, stop)
    assert not lines


def test_helpers_live_from_call_to_call():
    """Each has one thread, which ends with the block, and keeps nothing that a call was given."""
    before, idents = n_threads_in_the_end(), []

    def note(record, given):
        idents.append((int(record[0]["rank"]), threading.get_ident()))

    given = np.zeros(3)
    with Helpers() as helpers:
        for size in (3, 1, 2, 3):
            together(note, team(3), size, given, helpers=helpers)
        last = weakref.ref(given)
        del given
        assert last() is None
    assert n_threads_in_the_end(before) <= before
    ranks = [rank for rank, _ in idents]
    assert sorted(ranks) == sorted([0, 1, 2, 0, 0, 1, 0, 1, 2])
    assert len(set(idents)) == 3


def test_helpers_that_nobody_sent_home():
    """A second interruption may come while the first one is seen to."""
    before = n_threads_in_the_end()
    helpers = Helpers()
    helpers.take(2)
    del helpers
    assert n_threads_in_the_end(before) <= before


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="nobody chooses processors here")
def test_a_team_is_apart_and_then_free_again():
    processors = os.sched_getaffinity(0)
    if len(processors) < 2:
        pytest.skip("there is one processor only")
    seen, both = {}, threading.Barrier(2, timeout=60)

    def note(record):
        both.wait()
        seen[int(record[0]["rank"])] = os.sched_getaffinity(0)
        both.wait()

    together(note, team(2), 2)
    assert len(seen[0]) == 1
    assert seen[0] | seen[1] == processors
    assert not seen[0] & seen[1]
    assert os.sched_getaffinity(0) == processors


@numba.njit(nogil=True)
def note_owners(plans, n_rounds, n_pieces, owners):
    plan = plans[0]
    for r in range(n_rounds):
        # All wait for the slowest after each piece, so nobody needs help.
        piece = next_piece(plan, -1, n_pieces, r)
        while piece < n_pieces:
            owners[r, piece] = plan.rank
            barrier(plan)
            piece = next_piece(plan, piece, n_pieces, r)
        barrier(plan)


@pytest.mark.parametrize("size", [2, 3])
def test_a_member_has_the_same_pieces_in_each_round(size):
    owners = np.full((20, 4 * size), -1)
    together(note_owners, team(size), size, 20, 4 * size, owners)
    np.testing.assert_array_equal(owners, np.tile(np.repeat(np.arange(size), 4), (20, 1)))


INTERRUPTED = """
import _thread, json, os, signal, threading, time
import numba, numpy as np
from fastgd.kernels.plan import Plan
from fastgd.kernels.team import Helpers, barrier, together
from threads import n_threads_in_the_end

@numba.njit(nogil=True)
def meet(plans):
    for _ in range(20):
        if not barrier(plans[0]):
            break

plans = [Plan(np.float64) for _ in range(2)]
together(meet, plans, 2)
n_before, processors = n_threads_in_the_end(), os.sched_getaffinity(0)
goes_on, caught = True, 0

def interrupt():
    rng = np.random.default_rng(0)
    while goes_on:
        time.sleep(rng.uniform(0, 0.004))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

thread = threading.Thread(target=interrupt)
thread.start()
end = time.monotonic() + 8.0
while time.monotonic() < end:
    try:
        with Helpers() as helpers:
            for _ in range(50):
                together(meet, plans, 2, helpers=helpers)
    except KeyboardInterrupt:
        caught += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
goes_on = False
thread.join()
time.sleep(0.1)
print(json.dumps([caught, n_threads_in_the_end(n_before) - n_before,
                  os.sched_getaffinity(0) == processors]))
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to a thread here")
def test_interruptions_at_any_time_leave_nothing_behind():
    """No thread that waits for ever, none that is left, and no processor that is forbidden."""
    caught, n_left, is_free = run_script(INTERRUPTED)
    assert caught > 100
    assert n_left <= 0
    assert is_free


FORKED = """
import json, os
import numpy as np
from fastgd.kernels.plan import Plan
from fastgd.kernels.team import Helpers, together

def rank(record):
    return int(record[0]["rank"])

plans = [Plan(np.float64) for _ in range(3)]
with Helpers() as helpers:
    together(rank, plans, 3, helpers=helpers)
    child = os.fork()
    result = together(rank, plans, 3, helpers=helpers)
    if child == 0:
        os._exit(40 + result)
print(json.dumps(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_child_has_helpers_of_its_own():
    """One that was forked within a fit, by a callback, say, and goes on with it."""
    assert run_script(FORKED) == 40


FAILURES = """
import _thread, json
import numba, numpy as np
from fastgd.kernels.plan import Plan
from fastgd.kernels.team import barrier, together
from threads import n_threads_in_the_end

n_before = n_threads_in_the_end()

@numba.njit(nogil=True)
def fail(plans, culprit, ended):
    plan = plans[0]
    if plan.rank == culprit:
        raise ValueError("member failed")
    rounds = 0
    while barrier(plan):  # would go round for ever
        rounds += 1
    ended[plan.rank] = 1
    return rounds

@numba.njit(nogil=True)
def meet_once(plans, culprit, ended):
    if barrier(plans[0]):
        ended[plans[0].rank] = 1

def interrupted(record, culprit, ended):
    if record[0]["rank"] == culprit:
        raise KeyboardInterrupt
    return fail(record, culprit, ended)

def caught(kernel, size, culprit):
    ended = np.zeros(size, np.int64)
    try:
        together(kernel, [Plan(np.float64) for _ in range(size)], size, culprit, ended)
    except BaseException as error:
        return [type(error).__name__, ended.tolist()]
    return ["nothing", ended.tolist()]

results = [
    [kernel.__name__, size, culprit, *caught(kernel, size, culprit)]
    for kernel in (fail, interrupted) for size in (1, 2, 5) for culprit in {0, 1 % size, size - 1}
]

# The system has no thread left after the second one.
start, started = _thread.start_new_thread, []
def run_out(function, arguments):
    if len(started) == 2:
        raise RuntimeError("can't start new thread")
    started.append(function)
    return start(function, arguments)
_thread.start_new_thread = run_out
results.append(["start", 5, 3, *caught(meet_once, 5, 3)])
print(json.dumps([results, n_threads_in_the_end(n_before) - n_before]))
"""


def test_a_failure_of_one_member_is_raised_and_ends_the_others():
    results, n_left = run_script(FAILURES)
    *failures, (_, _, _, error, ended) = results
    assert len(failures) == 2 * (1 + 2 + 3)
    for name, size, culprit, raised, others in failures:
        assert raised == {"fail": "ValueError", "interrupted": "KeyboardInterrupt"}[name]
        assert others == [int(rank != culprit) for rank in range(size)]
    assert error == "nothing"
    assert ended == [1, 0, 0, 0, 0], "one does all, after those who were started have left"
    assert n_left <= 0


COMMON = """
import json, multiprocessing, threading, warnings
import joblib
import numpy as np
from fastgd import MLPClassifier, _threads

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X = rng.normal(size=(120, 10))
y = (X @ rng.normal(size=10) > 0) * 1

def fit_here(n_jobs, seed):
    clf = MLPClassifier((16, 8), n_jobs=n_jobs, max_iter=4, random_state=seed, batch_size=16)
    clf.fit(X, y)
    return [float(c) for W in clf.coefs_ for c in W.ravel()]

def fit(n_jobs, seed=0):
    from threads import several_threads  # here, because workers of joblib know nothing else

    with several_threads() as sizes:
        return fit_here(n_jobs, seed), max(sizes)

alone = [fit(1, seed)[0] for seed in range(4)]
"""

TWO_AT_ONCE = """
from threads import several_threads

results = [None] * 4

def work(seed):
    results[seed] = [fit_here(4, seed) for _ in range(5)]

with several_threads() as sizes:
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(json.dumps([[c == alone[seed] for seed in range(4) for c in results[seed]],
                  max(sizes) > 1, sum(_threads._users.values())]))
"""


@needs_tiles
def test_fits_in_several_threads_at_once():
    """Each has its own team, and gets the parameters that it would get alone."""
    same, in_teams, busy = run_script(COMMON + TWO_AT_ONCE)
    assert same == [True] * 20
    assert in_teams
    assert busy == 0


AFTER_A_FORK = """
before = fit(3)

def child(queue):
    queue.put([fit(3), sum(_threads._users.values())])

context = multiprocessing.get_context("fork")
queue = context.Queue()
# The fork comes while another fit seems to have all processors, and holds the lock.
with _threads.reserved(4), _threads._lock:
    process = context.Process(target=child, args=(queue,))
    process.start()
    (forked, size), busy = queue.get(timeout=120)
process.join()
loky = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(fit)(3, seed) for seed in (0, 1))
inside = joblib.Parallel(n_jobs=2, backend="loky")(
    joblib.delayed(_threads.allowed_threads)() for _ in range(2)
)
print(json.dumps([before == (alone[0], 3), forked == alone[0], size, busy,
                  [c for c, _ in loky] == alone[:2], [size for _, size in loky], inside]))
"""


@needs_tiles
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
def test_a_child_trains_after_a_team_of_its_parent():
    before, forked, size, busy, loky, sizes, inside = run_script(COMMON + AFTER_A_FORK)
    assert before
    assert forked
    assert size == 3
    assert busy == 0
    assert loky
    assert sizes == [3, 3]
    # joblib tells the libraries in its workers to share the processors; so do we.
    assert all(n <= max(1, joblib.cpu_count() // 2) for n in inside)


@pytest.fixture
def four_processors(monkeypatch):
    monkeypatch.setattr(_threads, "_n_processors", lambda: 4)


@pytest.mark.usefixtures("four_processors")
def test_reserved_gives_what_is_left():
    with reserved(3) as first, reserved(3) as second, reserved(2) as third, reserved(1) as fourth:
        assert (first, second, third, fourth) == (3, 1, 1, 1)
    with pytest.raises(KeyError), reserved(4):
        raise KeyError
    with reserved(9) as n_threads:
        assert n_threads == 4
    with reserved(2) as n_threads, reserved(3) as others:
        assert (n_threads, others) == (2, 2)
    assert not _threads._users


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(1, 7), st.none()), max_size=30))
def test_reserved_never_gives_more_than_there_are(wishes):
    """Each caller has its own thread; all that come on top fit on the processors."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(_threads, "_n_processors", lambda: 4)
        held = []
        for wish in wishes:
            if wish is not None:
                n = (own := ExitStack()).enter_context(reserved(wish))
                stack.push(own)
                held.append((own, n))
                total = sum(n for _, n in held)
                assert 1 <= n <= wish
                assert n == 1 or total <= 4
                # And no processor stays idle that somebody asked for.
                assert n == wish or total >= 4
            elif held:
                held.pop(0)[0].close()
    assert not _threads._users


@pytest.mark.usefixtures("four_processors")
def test_reserved_is_safe_between_threads():
    """Without its lock, two threads could both take the last processors."""
    lock, extra, worst = threading.Lock(), 0, 0

    def work():
        nonlocal extra, worst
        for i in range(200):
            with reserved(1 + i % 4) as n_threads:
                with lock:
                    extra += n_threads - 1
                    worst = max(worst, extra)
                with lock:
                    extra -= n_threads - 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert worst <= 3
    assert not _threads._users


@pytest.mark.usefixtures("four_processors")
@pytest.mark.parametrize(
    ("n_jobs", "expected"), [(1, 1), (3, 3), (4, 4), (9, 4), (-1, 4), (-2, 3), (-4, 1), (-9, 1)]
)
def test_n_jobs_counts_as_in_joblib(n_jobs, expected):
    assert allowed_threads(n_jobs) == expected
    # It is what the user says now, so it counts more than what the libraries were told.
    with threadpoolctl.threadpool_limits(1):
        assert allowed_threads(n_jobs) == expected


@pytest.mark.usefixtures("four_processors")
def test_the_limits_of_threadpoolctl_are_ours():
    with threadpoolctl.threadpool_limits(1):
        assert allowed_threads() == 1
        assert threads_worth(10**12, None, 1) == 1
    free = allowed_threads()
    assert free == min(4, *(library["num_threads"] for library in threadpoolctl.threadpool_info()))
    assert threads_worth(10**12, None, 1) == free


@pytest.mark.usefixtures("four_processors")
def test_where_no_library_has_threads(monkeypatch):
    none = threadpoolctl.ThreadpoolController().select(user_api="of nobody")
    monkeypatch.setattr(_threads, "_libraries", lambda: none)
    assert allowed_threads() == 4
    with quiet_blas():
        assert allowed_threads() == 4


def blas_threads():
    info = threadpoolctl.threadpool_info()
    return [library["num_threads"] for library in info if library["user_api"] == "blas"]


@pytest.fixture
def _two_blas_threads():
    with threadpoolctl.threadpool_limits(2):
        if blas_threads() != [2] * len(blas_threads()) or not blas_threads():
            pytest.skip("this BLAS has one thread whatever it is told")
        yield


@pytest.mark.usefixtures("four_processors", "_two_blas_threads")
def test_blas_is_quiet_as_long_as_anybody_wants():
    """The number of threads belongs to the process, whoever of several fits ends first."""
    usual, allowed = blas_threads(), allowed_threads()
    first, second = quiet_blas(), quiet_blas()
    for enter_or_leave, expected in (
        (first.__enter__, [1] * len(usual)), (second.__enter__, [1] * len(usual)),
        (lambda: first.__exit__(None, None, None), [1] * len(usual)),
        (lambda: second.__exit__(None, None, None), usual),
    ):  # fmt: skip
        enter_or_leave()
        assert blas_threads() == expected
        assert allowed_threads() == allowed  # by the user, all the time
    with pytest.raises(ZeroDivisionError), quiet_blas():
        1 / 0  # noqa: B018
    assert blas_threads() == usual


@pytest.mark.usefixtures("_two_blas_threads")
def test_blas_that_somebody_else_has_limited_meanwhile():
    usual = blas_threads()
    other = threadpoolctl.threadpool_limits(1, user_api="blas")
    with quiet_blas():
        other.restore_original_limits()
        assert blas_threads() == usual
    assert blas_threads() == usual
    with quiet_blas():
        threadpoolctl.threadpool_limits(3, user_api="blas")
    assert blas_threads() == [3] * len(usual)  # as the other one wants it


@pytest.mark.usefixtures("four_processors", "_two_blas_threads")
def test_a_limit_that_comes_later_counts():
    with quiet_blas(), threadpoolctl.threadpool_limits(1):
        openmp = [one for one in threadpoolctl.threadpool_info() if one["user_api"] == "openmp"]
        assert allowed_threads() == (1 if openmp else 2)


@pytest.mark.usefixtures("_two_blas_threads")
def test_an_interruption_while_blas_is_told(monkeypatch):
    """What was changed so far is put back."""
    usual = blas_threads()
    controllers = [c for c in _threads._libraries().lib_controllers if c.user_api == "blas"]
    change = type(controllers[-1]).set_num_threads

    def interrupted(self, number):
        change(self, number)
        if number == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(type(controllers[-1]), "set_num_threads", interrupted)
    with pytest.raises(KeyboardInterrupt), quiet_blas():
        pass
    assert blas_threads() == usual


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.usefixtures("four_processors", "_two_blas_threads")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_blas_is_quiet_during_a_fit_by_vectors(n_jobs, monkeypatch):
    """Its sums have the same bits then, however many threads the fit has."""
    monkeypatch.setattr("fastgd.solvers.objective.LEAST_A_PASS", 100)
    seen, X = [], np.random.default_rng(0).normal(size=(64, 5))
    clf = MLPClassifier((4,), solver="lbfgs", max_iter=3, n_jobs=n_jobs, tol=0.0)
    monkeypatch.setattr(
        "fastgd.neural_network.deterministic._Recorder.__call__",
        lambda self, intermediate_result: seen.extend(blas_threads()),
    )
    clf.fit(X, np.arange(64) % 2)
    assert set(seen) == {1}
    assert set(blas_threads()) == {2}


@pytest.mark.usefixtures("four_processors")
def test_a_thread_must_be_worth_it():
    assert [threads_worth(n, 4, 10) for n in (0, 10, 19, 20, 39, 40, 10**9)] == [
        1, 1, 1, 2, 3, 4, 4,
    ]  # fmt: skip


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_the_environment_limits_threads(variable):
    code = (
        "import numpy, scipy.linalg\nfrom fastgd import _threads\n"
        "_threads._n_processors = lambda: 4\nprint(_threads.allowed_threads())"
    )
    libraries = {library["internal_api"] for library in threadpoolctl.threadpool_info()}
    if "openblas" not in libraries:
        pytest.skip("another BLAS has other variables")
    assert run_script(code, **{variable: "1"}) == 1


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("n_jobs", [0, 1.5, "2"])
def test_a_wrong_n_jobs_is_named(estimator, n_jobs):
    X, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=rf"'n_jobs' parameter .* Got {n_jobs!r}"):
        estimator(n_jobs=n_jobs).fit(X, y)


def test_a_system_that_does_not_let_choose_processors(monkeypatch):
    """The choice is a help, not a need: a team works where it is forbidden."""

    def forbidden(*args):
        raise PermissionError("not here")

    monkeypatch.setattr("os.sched_setaffinity", forbidden, raising=False)
    ranks = together(lambda record: int(record[0]["rank"]), [Plan(np.float64) for _ in range(3)], 3)
    assert ranks == 0
