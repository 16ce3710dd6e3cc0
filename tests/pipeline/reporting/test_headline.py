"""The headline of an evaluation, of runs worked by hand."""

import pandas as pd
import pytest

from pipeline.evaluate import summarise
from pipeline.reporting.headline import headline
from rows import row

REGRETS = {  # (kind, method) -> regrets of tasks a and b
    ("policy", "policy"): (0.1, 0.6), ("rival", "calibrated"): (0.3, 0.5), ("textbook", "default"): (0.4, 0.7),
    ("textbook", "wsd"): (0.2, 0.2), ("rival", "finder_tenth"): (0.2, 0.4), ("rival", "finder_steepest"): (0.9, 0.9),
    ("control", "hold"): (0.4, 0.4), ("grid", "cosine"): (0.0, 0.0),
}  # fmt: skip
SHARES = {"ordinary": 0.8, "odd": 0.2}  # of a and of b
SELECTION = {
    "policy": 0.2, "policy_low": 0.2, "policy_high": 0.2, "worst": 0.6, "worst_task": "b w · Adam · 30 steps",
    "calibrated": 0.34, "lost_to_calibrated": 0.5, "textbook": 0.46, "lost_to_textbook": 0.0, "hold": 0.4,
    "policy_ordinary": 0.1, "policy_odd": 0.6, "hold_ordinary": 0.4, "hold_odd": 0.4, "textbook_ordinary": 0.4,
    "textbook_odd": 0.7, "best_rival": 0.24, "best_rival_name": "LR finder (tenth of blow-up)", "split": "selection",
    "tasks": 2, "seeds": 2,
}  # fmt: skip


def rows(split: str, *, without: tuple[str, ...] = (), worse: float = 0.0) -> pd.DataFrame:
    """Two seeds that judge, and others that choose the oracle."""
    without_errors = {"error_regret": None, "best_error_regret": None, "error_gap": 0.0}
    return pd.DataFrame([
        row(kind, method, 1e-3, seed, split=split, task=task, family=task,
            regime="ordinary" if task == "a" else "odd", regret=regret + worse, best_regret=regret,
            steps_to_target=5.0, epochs_to_target=1.0, **without_errors)
        for (kind, method), regrets in REGRETS.items() if method not in without
        for task, regret in zip("ab", regrets, strict=True)
        for seed in ((1000, 1001, 1002) if kind == "grid" else (0, 1))
    ])  # fmt: skip


def test_the_headline_by_hand() -> None:
    of_split = {split: rows(split, worse=worse) for split, worse in (("heldout", 0.3), ("selection", 0.0))}
    figures = {
        key: value for split, part in of_split.items() for key, value in summarise(split, part, SHARES, 50).items()
    }
    assert headline(figures, pd.concat(of_split.values())) == pytest.approx(SELECTION)


def test_what_was_not_run_is_not_there() -> None:
    """As in a policy's first evaluation, on one split, without rivals."""
    alone = rows("heldout", without=("calibrated", "default", "wsd", "finder_tenth", "finder_steepest", "hold"))
    names = {"policy", "policy_low", "policy_high", "policy_ordinary", "policy_odd", "worst", "worst_task"}
    assert headline(summarise("heldout", alone, SHARES, 50), alone).keys() == names | {"split", "tasks", "seeds"}


def test_a_policy_that_was_not_judged() -> None:
    with pytest.raises(ValueError, match=r"selection\.policy\.mean is missing"):
        headline({}, rows("selection"))
