"""Regrets, targets and gaps, worked by hand."""

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.aggregates import HOPELESS, SCORES, add_regret, labels, left_out
from rows import row

nan = float("nan")


def test_regret_worked_by_hand() -> None:
    """Initial loss 1, error .9. The winners re-run: test loss .2, best checkpoint .1, error .1; validation .3.

    So regret is (loss - .2) / .8, that of checkpoints (loss - .1) / .9, of errors (error - .1) / .8, and the target on
    validation .3 + .1 (1 - .3) = .37.
    """
    winner = {"test_loss": 0.2, "val_loss": 0.3, "test_error": 0.1, "best_loss": 0.1, "best_error": 0.1}
    rows = pd.DataFrame([
        *(row("oracle", score, 1e-3, s, **winner) for score in SCORES.values() for s in (0, 1, 2)),
        *(row("baseline", "cosine", 1e-2, s, test_loss=nan, best_loss=0.55, test_error=nan, val_curve=[nan] * 3)
          for s in (0, 1, 2)),
        *(row("policy", "policy", nan, s, test_loss=0.2 + 0.4 * s, test_error=0.5, val_curve=[0.37, 0.38, 0.3])
          for s in (0, 1, 2)),
    ])  # fmt: skip
    judged = add_regret(rows).sort_values(["kind", "seed"])
    diverged, policy = judged[judged.kind == "baseline"], judged[judged.kind == "policy"]
    assert diverged.regret.tolist() == diverged.error_regret.tolist() == [1, 1, 1]
    assert diverged.best_regret.tolist() == pytest.approx([0.5] * 3)
    assert policy.regret.tolist() == pytest.approx([0, 0.5, 1])
    assert policy.error_regret.tolist() == pytest.approx([0.5] * 3)
    assert policy.error_gap.tolist() == pytest.approx([0.4] * 3)
    assert policy.steps_to_target.tolist() == [10, 10, 10] and policy.epochs_to_target.tolist() == [2, 2, 2]
    assert diverged.steps_to_target.isna().all()


def test_a_task_without_error_rates_has_no_regret_of_errors() -> None:
    lacks = {"initial_error": nan, "test_error": nan, "best_error": nan}
    rows = pd.DataFrame([row("oracle", score, 1e-3, 0, test_loss=0.1, **lacks) for score in ("test_loss", "best_loss")])
    judged = add_regret(rows)
    assert judged.error_regret.isna().all() and judged.best_error_regret.isna().all() and judged.regret.notna().all()


@pytest.mark.parametrize(("initial_error", "regrets"), [(0.12, [np.nan]), (0.125, [0.0])])
def test_errors_need_room_for_a_regret(initial_error: float, regrets: list[float]) -> None:
    """More than .02 between the untrained and the oracle's .1."""
    rows = [row("oracle", score, 1e-3, 0, test_error=0.1, initial_error=initial_error) for score in SCORES.values()]
    judged = add_regret(pd.DataFrame(rows))
    np.testing.assert_array_equal(judged.error_regret[judged.method == "test_error"], regrets)


@pytest.mark.parametrize("end", [nan, np.inf, 7.0])
def test_an_oracle_counts_as_its_start_where_it_ends_above_it(end: float) -> None:
    """Losses .2 and the start's 1: .6 on average, so a loss of .8 is half-way."""
    rows = [row("oracle", score, 1e-3, seed, test_loss=loss) for score in SCORES.values() for seed, loss in
            enumerate((0.2, end))]  # fmt: skip
    judged = add_regret(pd.DataFrame([*rows, row("policy", "policy", nan, 0, test_loss=0.8)]))
    assert judged.oracle_loss.tolist() == pytest.approx([0.6] * len(judged))
    assert judged.regret[judged.kind == "policy"].tolist() == pytest.approx([0.5])


def test_a_task_that_nothing_improves_is_left_out_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("oracle", score, 1e-3, 0, task=t) for score in SCORES.values() for t in ("f-1", "f-2")]
    hopeless = [r | {"test_loss": 2.0} if r["task"] == "f-2" else r for r in rows]
    judged = add_regret(pd.DataFrame(hopeless))
    assert set(judged.task) == {"f-1"}
    assert f"f-2 left out: {HOPELESS}" in capsys.readouterr().out
    assert left_out(["f-1", "f-2"], judged) == {"f-2": HOPELESS}


def test_tasks_of_one_label_are_told_apart() -> None:
    called = {"f-1": "a", "f-2": "b", "f-3": "b"}
    rows = [row("policy", "policy", nan, s, task=task, label=called[task]) for task in called for s in (0, 1)]
    assert labels(pd.DataFrame(rows)) == {"f-1": "a", "f-2": "b · f-2", "f-3": "b · f-3"}
