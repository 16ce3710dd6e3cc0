"""Which configuration of a task's grid is the oracle."""

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.methods.scheduled import Scheduled
from pipeline.evaluation.oracle import winners
from rows import row

nan = float("nan")
KNOWN = pd.DataFrame({"initial_loss": [1.0, 1.0], "initial_error": [0.5, nan]}, index=["a", "b"])


def tuned() -> pd.DataFrame:
    return pd.DataFrame([
        row("grid", "cosine", 0.1, 0, task="a", test_loss=0.1, test_error=0.3),
        row("grid", "cosine", 0.1, 1, task="a", test_loss=nan, test_error=0.3),  # 1: on average .55
        row("grid", "linear", 0.1, 0, task="a", test_loss=0.5, test_error=0.1),
        row("grid", "linear", 0.1, 1, task="a", test_loss=0.5, test_error=0.1),
        row("grid", "step", 1.0, 0, task="b", test_loss=9.0), row("grid", "step", 1.0, 1, task="b", test_loss=0.0),
        row("grid", "step", 0.1, 0, task="b", test_loss=0.6), row("grid", "step", 0.1, 1, task="b", test_loss=0.6),
    ])  # fmt: skip


def test_the_winner_is_best_on_average_and_a_blow_up_counts_as_no_training() -> None:
    assert winners(tuned(), KNOWN, "test_loss") == {
        "a": Scheduled("oracle", "test_loss", schedule="linear", lr0=0.1),
        "b": Scheduled("oracle", "test_loss", schedule="step", lr0=1.0),  # (1 + 0) / 2
    }


def test_a_task_without_error_rates_has_no_winner_of_errors() -> None:
    winner = Scheduled("oracle", "test_error", schedule="linear", lr0=0.1)
    assert winners(tuned(), KNOWN, "test_error") == {"a": winner}


@pytest.mark.parametrize("end", [nan, np.inf, 9.0])
def test_runs_that_end_above_their_start_count_alike(end: float) -> None:
    """So the other run decides: .4 with a start of 1 is .7 on average, which .69 beats and .71 does not."""
    for steady, wanted in ((0.69, "step"), (0.71, "cosine")):
        losses = {("cosine", 0): 0.4, ("cosine", 1): end, ("step", 0): steady, ("step", 1): steady}
        rows = [row("grid", name, 0.1, seed, task="a", test_loss=loss) for (name, seed), loss in losses.items()]
        assert winners(pd.DataFrame(rows), KNOWN, "test_loss")["a"].schedule == wanted
