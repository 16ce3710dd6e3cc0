"""How wide a first guess is taken to be: by hand, on tasks whose regret is the distance from their best level."""

import numpy as np
import pytest

from experiments.policy.guess_widths import OFF, SPECS, best, figures, render, revised
from experiments.policy.held_levels import Held
from lrpilot.decisions.features import NAMES
from lrpilot.decisions.guess import GuessSpec


def task(best: float, named: float) -> Held:
    """What the policy names is off by `named`; the probe blew up."""
    observation = np.zeros(len(NAMES), np.float32)
    observation[NAMES.index("probe_blown")] = 1
    at = np.linspace(-2.5, 2.5, 11)
    return Held("a", "ordinary", observation, observation, {}, (best + named, 0.0), at, np.abs(at - best))


WORLD = [task(best, named) for best in (-1.0, 0.5) for named in (-0.5, 0.5)]


def test_regrets_by_hand() -> None:
    spec = GuessSpec(named=0.6, calm=9.0, guessed=0.8, wrong=0.25)
    moved = spec.combined(np.array([0.0]), np.array([0.5]), np.array([True]))[0]
    assert revised(WORLD, spec, best(WORLD)) == pytest.approx(np.full(4, 0.5 - moved))
    assert revised(WORLD, spec, best(WORLD) + 0.5)[1] == pytest.approx(0.5)  # the guess is what the policy names


def test_figures_and_table() -> None:
    assert GuessSpec() in SPECS  # what policies carry is one of those that are compared
    flat = figures(WORLD)
    assert flat["none"] == pytest.approx(0.5) and flat["tasks"] == 4
    assert len(SPECS) == len([key for key in flat if key.endswith(".worst")])
    name = "0.5, 0.7, 0.7"
    assert flat[f"{name}.worst"] == max(flat[f"{name}.{off:g}"] for off in OFF if 0 < abs(off) <= 1)
    assert flat[f"{name}.0"] < 0 < flat[f"{name}.2"] < 0.1
    table = render(flat | {"data": "f" * 64})
    assert f"| {name} |" in table and "without a guess, 0.500" in table
