"""Gradient-boosted trees that answer for tasks that they were not fitted on."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

FOLDS, SPLITS = 4, 3  # parts of the tasks; ways to part them, since a single one misleads by .02


def folds(tasks: int, split: int) -> np.ndarray:
    """(tasks,) which of FOLDS parts each task belongs to; `split`: which partition."""
    return np.random.default_rng(split).permutation(tasks) % FOLDS


def trees() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        learning_rate=0.06, max_iter=250, max_leaf_nodes=16, l2_regularization=1.0, random_state=0
    )
