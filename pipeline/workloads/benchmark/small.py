"""Few examples, partly mislabelled, learned by heart: tasks of the benchmark on several data sets."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Workload
from pipeline.workloads.building.sampling import assemble, corrupt, draw_budget, random_mlp, split


def overfit(
    rng: np.random.Generator,
    family: str,
    kind: str,
    x: np.ndarray,
    y: np.ndarray,
    n_train: int,
    wrong: float,
) -> Workload:
    """`n_train` examples x (n, columns) of classes y, a share `wrong` of them mislabelled, learned by an MLP."""
    n_classes = int(y.max()) + 1
    splits = corrupt(rng, split(rng, x, y, n_train), wrong, n_classes)
    budget = draw_budget(rng, n_train, batch=(8, 32))
    label, build = random_mlp(rng, x.shape[1], n_classes, budget.batch_size, depths=(1, 3), widths=(48, 200))
    label = label.of(f"{kind}-wrong{wrong:.0%}-mlp", f"{100 * wrong:.0f} % wrong labels")
    return assemble(rng, family, label, splits, build, budget)
