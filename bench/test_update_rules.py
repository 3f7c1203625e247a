"""How fast is one update by each rule, from vectors in the first-level cache to long ones?"""

import pytest

from bench import contests
from bench.problems import PARAMETER_COUNTS
from fastgd.optimizers import OPTIMIZERS


@pytest.mark.parametrize("peer", ["fastgd", "numpy"])
@pytest.mark.parametrize("n", PARAMETER_COUNTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_update_rule(race, name, n, peer):
    race(contests.update_rule(name, n), peer)
