"""The cost of tuning by random search, for comparison with schedulers that tune nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def random_search(val_loss: ArrayLike, regret: ArrayLike, trials: int) -> NDArray[np.float64]:
    """Expected regret (...,) of the best of `trials` configurations, drawn at random and chosen by `val_loss`.

    Both are (..., configurations). A validation loss that is not finite comes last, and no configuration is drawn
    twice. The expectation is exact: the i-th best of n is the best of a draw with probability
    C(n - i, trials - 1) / C(n, trials). Bergstra & Bengio 2012 made the case for drawing at random.

    Raises ValueError unless 1 <= trials <= configurations, and for regrets that are not finite.
    """
    loss, regret = np.broadcast_arrays(np.asarray(val_loss, float), np.asarray(regret, float))
    n = loss.shape[-1]
    if not 1 <= trials <= n:
        raise ValueError(f"random_search, trials: {trials}, want 1 to {n}, the number of configurations")
    if not np.isfinite(regret).all():
        raise ValueError("random_search, regret: some are not finite; a diverged training counts as 1")
    order = np.argsort(np.where(np.isfinite(loss), loss, np.inf), axis=-1, kind="stable")
    # P(best is the i-th) = P(first i-1 are not drawn, the i-th is), by the chain rule: no factorials, no overflow.
    left = n - np.arange(n)
    drawn = trials / left
    missed = np.append(1.0, np.cumprod(np.maximum(1 - drawn, 0.0))[:-1])
    return np.take_along_axis(regret, order, axis=-1) @ (missed * np.minimum(drawn, 1.0))
