"""Values that critics predict, beside regrets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments.policy import predicted_values
from experiments.policy.predicted_values import comparable, correlation, figures, pairs, render
from experiments.policy.variant import MEAN, Variant
from experiments.policy.variants import PLAIN, Experiment

REWARD = {"knee": 0.1}


@pytest.mark.parametrize(
    ("variant", "wanted"),
    [
        (PLAIN, True),
        (Variant({"alpha": 2.5}), True),
        (Variant(action={"moves": False}), True),
        (Variant(reward=REWARD), False),
        (Variant(share=0.5), False),
        (Variant(later=0.5), False),
        (Variant(agents=MEAN), False),
        (Variant(unprobed=True), False),
        (Variant(rule="finder_tenth"), False),
    ],
)
def test_what_can_be_compared(variant: Variant, wanted: bool) -> None:
    assert comparable(variant) is wanted


def test_agents_of_the_experiments_that_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = {"a": PLAIN, "b": Variant({"algorithm": "bc"}), "c": Variant(reward=REWARD)}
    monkeypatch.setattr(
        predicted_values, "EXPERIMENTS", {"x": Experiment("?", variants), "y": Experiment("?", {"a": PLAIN})}
    )
    stored: dict[str, Any] = {"data": "new"}
    stored |= {"a.promised": [0.1, 0.2], "a.agents": [0.5, 0.4], "b.promised": None, "b.agents": [1.0, 1.0]}
    (tmp_path / "x.json").write_text(json.dumps(stored | {"c.promised": [9.0], "c.agents": [0.0]}))
    (tmp_path / "y.json").write_text(json.dumps({"data": "old", "a.promised": [0.0], "a.agents": [0.0]}))
    assert list(pairs(tmp_path, "new")) == [(0.1, 0.5), (0.2, 0.4)]


def test_figures_by_hand() -> None:
    # Ranks of the values 4 3 2 1, of the regrets 2 1 3 4: 1 - 6 * (4 + 4 + 1 + 9) / (4 * 15) = -0.8.
    assert correlation(np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.2, 0.1, 0.3, 0.4])) == pytest.approx(-0.8)
    agents = [(0.9, 0.2), (0.8, 0.1), *((0.1 * k, 1.0 - 0.1 * k) for k in range(7))]
    flat = figures([*agents, agents[0]])  # the one that stands in two experiments counts once
    assert flat["agents"] == 9 and flat["rank"] == pytest.approx(6 * 2 / (9 * 80) - 1)
    assert flat["rank_low"] <= flat["rank"] <= flat["rank_high"]
    assert (flat["promised"], flat["mean"], flat["best"]) == pytest.approx((0.2, 5.2 / 9, 0.1))


def test_it_is_scipys_correlation() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 40)).round(1)  # with ties
    assert correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_an_interval_holds_what_is_sure() -> None:
    values = np.linspace(0, 1, 30)
    flat = figures([*zip(values.tolist(), (-values).tolist(), strict=True)])
    assert [flat["rank_low"], flat["rank_high"]] == pytest.approx([-1.0, -1.0])
    assert render(flat).splitlines()[2].startswith("| 30 | \N{MINUS SIGN}1.00 |")
