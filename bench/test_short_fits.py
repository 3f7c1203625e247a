"""What does a fit cost besides its steps?"""

import pytest

from bench import short_fits


@pytest.mark.parametrize("peer", short_fits.PACKAGES)
@pytest.mark.parametrize(("method", "cell"), short_fits.SUBJECTS, ids=str)
def test_short_fits(race, method, cell, peer):
    race(lambda: short_fits.contest(method, cell), peer)
