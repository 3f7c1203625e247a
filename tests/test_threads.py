"""The limit on BLAS's threads holds within its block and is given back."""

import contextlib
import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from fastgd import MLPClassifier
from fastgd._threads import one_blas_thread


def limits():
    """Threads of each BLAS in the process."""
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def several():
    """Two threads to begin with, on any machine."""
    with threadpool_limits(2, "blas"):
        if set(limits()) != {2}:
            pytest.skip(f"this BLAS cannot be given two threads (it has {limits()})")
        yield


def test_one_thread_within_the_block_and_all_of_them_after_it():
    with one_blas_thread():
        assert set(limits()) == {1}
        with one_blas_thread():
            assert set(limits()) == {1}
        assert set(limits()) == {1}
    assert set(limits()) == {2}


def test_an_error_gives_the_threads_back():
    with contextlib.suppress(RuntimeError), one_blas_thread():
        raise RuntimeError
    assert set(limits()) == {2}


def test_blocks_that_overlap_in_several_python_threads_give_the_threads_back():
    inside, leave = threading.Barrier(5), threading.Event()

    def hold():
        with one_blas_thread():
            inside.wait(60)
            leave.wait(60)

    threads = [threading.Thread(target=hold) for _ in range(4)]
    for thread in threads:
        thread.start()
    with one_blas_thread():
        inside.wait(60)
    leave.set()
    for thread in threads:
        thread.join()
    assert set(limits()) == {2}


def test_a_fit_gives_the_threads_back(digits):
    MLPClassifier((8,), solver="lbfgs", random_state=0, tol=0.1).fit(*digits)
    assert set(limits()) == {2}
