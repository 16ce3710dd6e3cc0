"""The thinned grid that all methods are measured by: worked by hand, and one that is trained."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lrpilot.decisions.optimizer_kinds import OPTIMIZERS
from pipeline.config import read
from pipeline.engines import engine
from pipeline.evaluation import grid
from pipeline.evaluation.bench import Bench
from pipeline.evaluation.grid import FIRST, HIGHEST, SCHEDULES, TUNING, promising, rates, train_grids, whole
from pipeline.evaluation.splits import tasks
from repository import TOP
from rows import row

nan = float("nan")
KNOWN = pd.DataFrame({"initial_loss": [1.0, 1.0], "initial_error": [0.9, 0.9]}, index=["a", "b"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_rates_are_half_decades_up_to_the_highest_of_the_optimizer(optimizer: str) -> None:
    every = rates(optimizer)
    assert every[0] == 1e-5 and every[-1] == HIGHEST[optimizer]
    np.testing.assert_allclose(np.diff(np.log10(every)), 0.5, atol=0.03)


def test_the_default_initial_rates_are_in_every_grid() -> None:
    initial = set(read(TOP / "params.yaml")["evaluate"]["learning_rates"])
    assert all(initial <= set(rates(optimizer)) for optimizer in OPTIMIZERS)


@pytest.mark.parametrize(
    ("losses", "near"),
    [
        # the best is .2 of a start at 1, so up to .2 + .1 * .8 = .28 a rate counts as good
        ({1e-4: 0.9, 1e-3: 0.4, 1e-2: 0.27, 1e-1: 0.2, 1.0: 0.9, 10.0: nan}, [1e-3, 1e-2, 1e-1, 1.0]),
        ({1e-4: 0.9, 1e-3: 0.29, 1e-2: 0.2, 1e-1: 0.29}, [1e-3, 1e-2, 1e-1]),
        ({1e-4: 0.2, 1e-3: 0.5, 1e-2: 0.5}, [1e-4, 1e-3]),  # the best is the lowest
        ({1e-4: 0.5, 1e-3: 0.5, 1e-2: 0.2, 1e-1: 0.5, 1.0: 0.21}, [1e-3, 1e-2, 1e-1, 1.0]),  # two valleys
        ({1e-4: 1.1, 1e-3: 5.0, 1e-2: nan}, [1e-4, 1e-3, 1e-2]),  # nothing gains anything: all of it
    ],
)
def test_other_schedules_stay_near_where_the_cosine_does_well(losses: dict[float, float], near: list[float]) -> None:
    """Two seeds around each mean; a run that diverged or ended above its start counts as its start."""
    rows = [row("grid", FIRST, lr0, seed, task="a", test_loss=loss + (0.01 if seed else -0.01))
            for lr0, loss in losses.items() for seed in (0, 1)]  # fmt: skip
    rows += [row("grid", FIRST, lr0, 0, task="b", test_loss=lr0) for lr0 in (0.5, 0.7, 0.9)]
    assert promising(pd.DataFrame(rows), KNOWN) == {"a": near, "b": [0.5, 0.7]}


def test_what_thinning_left_out_counts_as_the_cosine() -> None:
    trained = {("cosine", 0.1): 0.3, ("cosine", 1.0): 0.9, ("step", 0.1): 0.2}
    rows = [row("grid", name, lr0, seed, task="a", regret=regret + 0.01 * seed)
            for (name, lr0), regret in trained.items() for seed in (0, 1)]  # fmt: skip
    rows += [row("grid", "cosine", 0.1, 0, task="b", regret=0.4), row("policy", "policy", nan, 0, task="a", regret=0.5)]
    cells = whole(pd.DataFrame(rows)).set_index(["task", "method", "lr0", "seed"]).regret.to_dict()
    assert cells == pytest.approx({
        ("a", "cosine", 0.1, 0): 0.3, ("a", "cosine", 0.1, 1): 0.31, ("a", "cosine", 1.0, 0): 0.9,
        ("a", "cosine", 1.0, 1): 0.91, ("a", "step", 0.1, 0): 0.2, ("a", "step", 0.1, 1): 0.21,
        ("a", "step", 1.0, 0): 0.9, ("a", "step", 1.0, 1): 0.91, ("b", "cosine", 0.1, 0): 0.4,
        ("b", "step", 0.1, 0): 0.4,
    })  # fmt: skip


def test_a_grid_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cosine from every rate, the other schedules from those that it names, all on seeds that judge nothing."""
    monkeypatch.setattr(grid, "HALF_DECADES", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))
    chosen = tasks(("illconditioned",), 1)
    bench = Bench(chosen, {"odd": 1.0}, 2, 2, (), engine("local", 1), tmp_path)
    rows = train_grids(bench, chosen)
    near = promising(rows[rows.method == FIRST], bench.facts())[chosen[0].name]
    assert 2 <= len(near) < 5
    wanted = {(FIRST, lr0) for lr0 in grid.HALF_DECADES}
    wanted |= {(name, lr0) for name in SCHEDULES for lr0 in near}
    assert {*zip(rows.method, rows.lr0, strict=True)} == wanted and len(rows) == 2 * len(wanted)
    assert set(rows.seed) == {TUNING, TUNING + 1} and set(rows.kind) == {"grid"}
    assert train_grids(bench, []).empty
