"""The shipped policy on the selection split: its own command line, and when holding wins."""

from typing import Any

import pytest

from benchmarks import shipped
from quick import quick


@pytest.mark.parametrize(
    ("low", "wins"), [(-0.02, False), (0.0, False), (0.001, True)], ids=["behind", "no difference", "ahead"]
)
def test_holding_wins_where_the_interval_says_so(low: float, wins: bool) -> None:
    of_hold = {"": low + 0.03, "_low": low, "_high": low + 0.06}
    figures = {f"selection.control.hold.policy_minus{end}": value for end, value in of_hold.items()}
    misses = shipped.missed(figures)
    assert len(misses) == wins
    assert not wins or misses == ["holding wins: the policy's regret is 0.031 higher (0.001 to 0.061)"]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    _, out = quick("benchmarks.shipped", tmp_path_factory.mktemp("shipped"))
    return out


def test_figures_of_all_that_it_says(figures: dict[str, Any]) -> None:
    groups = ("policy", "policy_val", "policy_steps", "control.hold", "control.hold_steps", "textbook.default")
    assert figures.keys() >= {f"selection.{group}.mean" for group in groups}
    table = shipped.render(figures)
    assert "first level held, not told of the data" in table and figures["policy"][:12] in table
