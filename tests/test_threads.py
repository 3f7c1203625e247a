"""The limit on BLAS's threads: held while anybody needs it, and given back by the last."""

import contextlib
import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from fastgd._threads import ALONE_ANYWAY, WORTH_THREADS, threads_for

MIDDLE = ALONE_ANYWAY + 1


def limits():
    """Threads of each BLAS in the process."""
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def several():
    """More than one thread to begin with, on any machine."""
    with threadpool_limits(2, user_api="blas"):
        before = limits()
        if not before or set(before) != {2}:
            pytest.skip(f"this BLAS cannot be given two threads (it has {before})")
        yield before
        assert limits() == before


def is_one():
    return set(limits()) == {1}


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
    with pytest.raises(ZeroDivisionError), threads_for(MIDDLE):
        with pytest.raises(KeyError), threads_for(MIDDLE):
            raise KeyError
        assert is_one()
        raise ZeroDivisionError
    assert limits() == several
    with threads_for(MIDDLE):
        assert is_one()


def test_what_others_set_inside_is_not_kept(several):
    """The limit gives back what it found, not what somebody set in between."""
    with threads_for(MIDDLE), contextlib.suppress(ValueError):
        threadpool_limits(3, user_api="blas")
    assert limits() == several


@pytest.mark.parametrize("first_to_leave", [0, 1, 2])
def test_the_last_thread_to_leave_lifts_it(several, first_to_leave):
    n = 3
    entered = [threading.Event() for _ in range(n)]
    may_leave = [threading.Event() for _ in range(n)]
    failures = []

    def hold(i):
        try:
            with threads_for(MIDDLE):
                entered[i].set()
                if not may_leave[i].wait(60):
                    failures.append(f"thread {i} was never told to leave")
                if i == first_to_leave:
                    raise KeyError
        except KeyError:
            pass

    threads = [threading.Thread(target=hold, args=(i,)) for i in range(n)]
    for i in range(n):
        threads[i].start()
        assert entered[i].wait(60)
        assert is_one()
    order = [first_to_leave, *(i for i in range(n) if i != first_to_leave)]
    for i in order:
        assert is_one(), "lifted while a thread still held it"
        may_leave[i].set()
        threads[i].join(60)
        assert not threads[i].is_alive()
    assert limits() == several
    assert not failures


def test_many_threads_come_and_go(several):
    seen = []
    start = threading.Barrier(8)

    def come_and_go():
        start.wait(60)
        for _ in range(50):
            with threads_for(MIDDLE):
                seen.append(is_one())

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 * 50
    assert all(seen)
    assert limits() == several
