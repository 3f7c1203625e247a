"""The limit on BLAS's threads: held while anybody needs it, and given back by the last."""

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from fastgd._threads import ALONE_ANYWAY, WORTH_THREADS, threads_for

MIDDLE = ALONE_ANYWAY + 1
FAR_TOO_LONG = 60  # seconds to wait for another thread before the test fails

CONTROLLING_THREAD = pytest.mark.xfail(
    reason="fastgd bug: threadpoolctl 3.8 lets only one Python thread set OpenBLAS's limit, and"
    " _OneThread never gives that right back: the others set and restore nothing"
)


def limits():
    """Threads of each BLAS in the process."""
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def is_one():
    return set(limits()) == {1}


def set_limits(n_threads):
    # In a thread that ends, because threadpoolctl may make the first thread to set a limit the
    # only one that can.
    thread = threading.Thread(target=threadpool_limits, args=(n_threads, "blas"))
    thread.start()
    thread.join()


@pytest.fixture(autouse=True)
def several():
    """More than one thread to begin with, on any machine."""
    original = limits()
    set_limits(2)
    before = limits()
    if not before or set(before) != {2}:
        pytest.skip(f"this BLAS cannot be given two threads (it has {before})")
    yield before
    set_limits(max(original))


def test_products_in_the_middle_run_on_one_thread(several):
    with threads_for(MIDDLE):
        assert is_one()
    assert limits() == several


@pytest.mark.parametrize("size", [0, 1, ALONE_ANYWAY, WORTH_THREADS, 10 * WORTH_THREADS])
def test_small_and_large_products_are_left_alone(several, size):
    with threads_for(size):
        assert limits() == several


def test_nested(several):
    with threads_for(MIDDLE):
        with threads_for(MIDDLE), threads_for(WORTH_THREADS):
            assert is_one()
        assert is_one()
    assert limits() == several


def test_after_exceptions(several):
    def fail():
        with threads_for(MIDDLE):
            with contextlib.suppress(KeyError), threads_for(MIDDLE):
                raise KeyError
            assert is_one()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert limits() == several
    with threads_for(MIDDLE):
        assert is_one()


@CONTROLLING_THREAD
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_last_thread_to_leave_lifts_it(several, order):
    with threads_for(MIDDLE):
        pass  # a fit in the main thread came before
    entered, may_leave = ([threading.Event() for _ in order] for _ in range(2))

    def hold(i):
        with threads_for(MIDDLE):
            entered[i].set()
            assert may_leave[i].wait(FAR_TOO_LONG)

    # The threads of a pool live on after they left.
    with ThreadPoolExecutor(len(order)) as pool:
        try:
            held = []
            for i in range(len(order)):
                held.append(pool.submit(hold, i))
                assert entered[i].wait(FAR_TOO_LONG)
                assert is_one()
            for i in order:
                assert is_one(), "lifted while a thread still held it"
                may_leave[i].set()
                held[i].result()
            assert limits() == several
        finally:
            for event in may_leave:
                event.set()


@CONTROLLING_THREAD
def test_many_threads_come_and_go(several):
    with threads_for(MIDDLE):
        pass  # a fit in the main thread came before
    seen = []
    start = threading.Barrier(8, timeout=FAR_TOO_LONG)

    def come_and_go():
        start.wait()
        for _ in range(50):
            with threads_for(MIDDLE):
                seen.append(is_one())

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(come_and_go) for _ in range(8)]:
            future.result()
        assert seen == [True] * (8 * 50)
        assert limits() == several
