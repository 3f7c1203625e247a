"""How much memory does a fit take? A figure that no other load disturbs, so it is asserted."""

import pytest

from bench import memory


@pytest.mark.parametrize("cell", memory.CELLS, ids=str)
def test_memory(benchmark, cell):
    sizes = memory.sizes(cell)
    peak = benchmark.pedantic(memory.peak_bytes, (cell,), rounds=1)
    benchmark.extra_info.update(sizes, peak=peak)
    assert peak < 6 * sizes["parameters"] + 4 * sizes["batch"] + memory.SMALL_CHANGE


def test_input_is_not_copied(benchmark):
    cell = memory.LONG
    peak = benchmark.pedantic(memory.peak_bytes, (cell,), rounds=1)
    assert peak < 0.2 * memory.sizes(cell)["X"]
