"""The expected best of a random search is the mean over every draw there is."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.random_search import random_search

NUMBERS = st.lists(st.sampled_from([0.1, 0.2, 0.4, 0.8, np.nan, np.inf]), min_size=1, max_size=6)


@given(NUMBERS, st.data())
def test_equals_every_draw(losses: list[float], data: st.DataObject) -> None:
    """Ties go to the first, as with argmin; a loss that is not finite is never chosen over one that is."""
    n = len(losses)
    regrets = np.array(data.draw(st.lists(st.floats(-1, 2), min_size=n, max_size=n)))
    finite = np.where(np.isfinite(losses), losses, np.inf)
    for trials in range(1, n + 1):
        draws = [list(draw) for draw in combinations(range(n), trials)]
        wanted = np.mean([regrets[draw][finite[draw].argmin()] for draw in draws])
        assert random_search(losses, regrets, trials) == pytest.approx(wanted, abs=1e-12)


def test_by_hand() -> None:
    """Two of three: the best is in two of three draws, the second best is the best of the last one."""
    expected = random_search([[3.0, 1.0, 2.0]] * 2, [[0.9, 0.0, 0.3], [0.0, 0.6, 0.3]], 2)
    np.testing.assert_allclose(expected, [0.1, 0.5])


@pytest.mark.parametrize(
    ("trials", "regret", "message"), [(0, 0.1, "want 1 to 2"), (3, 0.1, "want 1 to 2"), (1, np.nan, "not finite")]
)
def test_bad_input(trials: int, regret: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_search([1.0, 2.0], [0.5, regret], trials)
