"""How large a network is, by its weight matrices: what its best rates depend on besides its probe.

A step of an Adam kind changes every weight by about the rate. So how much it changes a matrix, in relation to what the
matrix was drawn with, grows with the root of the fan-in, and what that does to the activations grows with the fan-in
itself (Yang et al. 2022, arXiv:2203.03466). Medians over matrices leave embeddings and heads aside; gains and biases
are no matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class NetworkSize(NamedTuple):
    """Facts of a network before its first step, each () or (runs,); nan where it has no weight matrix."""

    fan_in: Any  # of a weight matrix, the median
    matrices: Any  # how many there are
    weights: Any  # trained parameters, all of them
    scale: Any  # root mean square of a matrix's weights, the median


UNKNOWN = NetworkSize(math.nan, math.nan, math.nan, math.nan)


def is_matrix(shape: Sequence[int]) -> bool:
    """Whether a parameter of that shape is a weight matrix or a kernel, and no gain, bias or single row."""
    return len(shape) > 1 and shape[0] > 1 and math.prod(shape[1:]) > 1


def network_size(shapes: Sequence[Sequence[int]], squares: Any) -> NetworkSize:
    """Return the facts of parameters of these shapes.

    squares (n,) or (n, runs): the sum of squares of each one that is a matrix, in order.
    """
    matrices = [shape for shape in shapes if is_matrix(shape)]
    if not matrices:
        return UNKNOWN
    counts = np.array([math.prod(shape) for shape in matrices], np.float64)
    squares = np.asarray(squares, np.float64)
    mean = squares / counts.reshape(-1, *[1] * (squares.ndim - 1))
    return NetworkSize(
        float(np.median([math.prod(shape[1:]) for shape in matrices])),
        len(matrices),
        sum(math.prod(shape) for shape in shapes),
        np.sqrt(np.median(mean, axis=0)),
    )
