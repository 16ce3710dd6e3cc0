"""Families with few, partly mislabelled examples and many epochs, where a low rate gives the best test loss."""

from __future__ import annotations

import numpy as np

from pipeline.workloads.base import Family, Workload
from pipeline.workloads.building import recipes
from pipeline.workloads.building.architectures import draw_perceptron
from pipeline.workloads.building.recipes import draw_sizes
from pipeline.workloads.building.sampling import corrupt, draw_seed, pick, split
from pipeline.workloads.datasets import packaged
from pipeline.workloads.recorded.synthetic import draw_signals


def _clusters(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clusters, x (800, 32) standardised, y in 0..3."""
    from sklearn.datasets import make_classification

    drawn = make_classification(
        800, 32, n_informative=12, n_classes=4, class_sep=1.5, flip_y=0, random_state=draw_seed(rng)
    )
    x, y = map(np.asarray, drawn)  # they are arrays, but scikit-learn's annotations do not say so
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), y.astype(np.int64)


def _small(
    rng: np.random.Generator, family: str, kind: str, x: np.ndarray, y: np.ndarray, most: int, wrong: float
) -> Workload:
    """30 to `most` examples, `wrong` of them with a wrong label, by an MLP."""
    sizes, classes = draw_sizes(rng, "small_noisy", (30, most)), int(y.max()) + 1
    splits = corrupt(rng, split(rng, x, y, sizes.n_train), wrong, classes)
    label, build = draw_perceptron(rng, x.shape[1], classes, sizes.batch_size, (1, 3), (64, 320))
    label = label.of(f"{kind}-wrong{wrong:.0%}", f"{kind} {100 * wrong:.0f} % wrong labels")
    return recipes.assemble(rng, family, "small_noisy", "mlp", label, splits, build, sizes)


def overfit(rng: np.random.Generator) -> Workload:
    """30-300 digits or clusters, up to 35 % of them with a wrong label."""
    kind = pick(rng, ("digits", "clusters"))
    x, y = packaged.digits() if kind == "digits" else _clusters(rng)
    return _small(rng, "overfit", kind, x.reshape(len(x), -1), y, 300, rng.uniform(0, 0.35))


def overfit_signals(rng: np.random.Generator) -> Workload:
    """30-500 generated signals, up to 40 % of them with a wrong label."""
    x, y = draw_signals(rng, 1000, int(rng.integers(3, 13)), int(rng.integers(24, 49)))
    return _small(rng, "overfit_signals", "signals", x, y, 500, rng.uniform(0, 0.4))


FAMILIES = (
    Family("overfit", "train", overfit, "small_noisy", "overfit"),
    Family("overfit_signals", "train", overfit_signals, "small_noisy", "overfit"),
)
