"""What a probe does to the parameters, step by step, by hand: in numpy and in torch."""

from typing import Any

import numpy as np
import pytest
import torch

from lrpilot.decisions.telemetry import Sketch
from pipeline.simulation.probe_displacement import ProbeDisplacement

STEPS = [  # gradient, weights after the step, and what is said of it
    ([3.0, 4.0], [3.0, 4.5], (0.0, 0.1)),
    ([-3.0, -4.0], [3.0, 4.0], (-1.0, 0.0)),
    ([4.0, -3.0], [0.0, 0.0], (0.0, 1.0)),
    ([0.0, 0.0], [6.0, 8.0], (0.0, 1.0)),
]


@pytest.mark.parametrize("kind", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_by_hand(kind: Any) -> None:
    displacement = ProbeDisplacement(Sketch(2.0), kind([[3.0, 4.0]]))
    assert float(displacement.norm[0]) == pytest.approx(10.0)
    for gradient, weights, want in STEPS:
        fields = displacement.record(kind([gradient]), kind([weights]))
        assert [float(value[0]) for value in fields] == pytest.approx(want, abs=1e-6)
