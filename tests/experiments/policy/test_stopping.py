"""What stopping changes, by hand, and the figures of a few recorded tasks."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from experiments.policy.stopping import VARIANTS, best, held, measure, of_critics, render
from lrpilot.features import NAMES
from pipeline.config import load
from policy import agents, trajectories
from policy.buffer import GRID
from policy.departures import NOTHING_INFERRED
from policy.settings import Caution, Reward
from policy.store import Masks, Store, build
from tiny import with_few_steps, write_params
from written_task import twins

REWARD = Reward(loss_weight=0.0, regret_weight=1.0, knee=1.0, floor=-0.5)
FACTS = [(0, 0, -1, 0.0), (0, 1, 1, 0.5), (0, 2, 1, -0.75), (1, 0, -1, 0.0), (1, 1, 0, -1.0)]
LEVELS = [0.1] * 4 + [-0.9]
REGIMES = ["odd"] * 3 + ["small_noisy"] * 2  # of the runs, so that one task shows two


def write(path: Path, final: list[float]) -> Path:
    table = twins(final, FACTS, LEVELS)
    regimes = pa.array(np.repeat(REGIMES, len(table) // len(REGIMES)).tolist())
    table = table.set_column(table.schema.get_field_index("regime"), "regime", regimes)
    trajectories.store(trajectories.encode(table), path)
    return path


def test_changes_by_hand(tmp_path: Path) -> None:
    """Every run has loss 1, regret 1, at its only later decision; the best one ends at 0.5, regret 0."""
    all_twins = [*held(write(tmp_path / "drawn/0.parquet", [0.5, 0.75, 1.0, 1.25, np.nan]), REWARD)]
    wanted = [np.log10(1 / 2), np.log10(1.5 / 2), 0.0, np.log10(2.5 / 2), 0.5 - np.log10(2)]
    assert [twin.regime for twin in all_twins] == REGIMES
    np.testing.assert_allclose([twin.changes for twin in all_twins], np.array(wanted)[:, None], atol=1e-12)
    assert best(all_twins) == pytest.approx({"best.odd": 0.0, "best.small_noisy": np.mean(wanted[3:])})
    shown, hidden = (np.stack([twin.observed[mode] for twin in all_twins]) for mode in ("shown", "hidden"))
    assert (shown != hidden).any() and np.isfinite(shown).all()


def test_the_margin_decides_who_stops(tmp_path: Path) -> None:
    path = write(tmp_path / "drawn/0.parquet", [0.5, 0.75, 1.0, 1.25, 0.6])
    build([path], REWARD, tmp_path, inferred=NOTHING_INFERRED)
    data = Store.open(tmp_path).masked(Masks(0.5, 0.5), 0)
    critic = agents.create(data, load(write_params(tmp_path)).train, "cpu")
    critic.create_impl((len(NAMES),), len(GRID))
    all_twins = [*held(path, REWARD)]
    for regime in set(REGIMES):
        every = np.mean([twin.changes[0] for twin in all_twins if twin.regime == regime])
        for margin, changed, stopped in ((-10.0, every, 1.0), (10.0, 0.0, 0.0)):
            figures = of_critics(all_twins, [critic], Caution(first=0.0, later=1.0, margin=margin))
            for mode in ("shown", "hidden"):
                assert figures[f"{regime}.{mode}"] == pytest.approx(changed)
                assert figures[f"{regime}.{mode}_stopped"] == stopped


def test_figures_of_a_collection(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(10):
        write(tmp_path / "data/drawn" / f"{i}.parquet", rng.uniform(0.2, 0.9, 5).tolist())
    figures = measure(trajectories.files(tmp_path / "data"), with_few_steps(write_params(tmp_path)))
    assert figures["tasks"] == 10 and {"best.odd", "best.small_noisy"} <= set(figures)
    page = render(figures | {"data": "d" * 64})
    assert page.count("\n") == 4 + 2 * len(VARIANTS)
    assert "| small and noisy (stopped) | odd (stopped) |" in page
