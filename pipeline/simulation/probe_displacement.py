"""What the steps of a probe do to the parameters, beyond what its pilot records: for experiments."""

from __future__ import annotations

from typing import Any

from lrpilot.decisions.telemetry import Sketch


class ProbeDisplacement:
    """Measures the steps of probes that begin at `weights`. Weights and gradients are as `Sketch` takes them."""

    def __init__(self, sketch: Sketch, weights: Any) -> None:
        self._sketch, self._begin, self._gradient = sketch, weights, None
        self.norm = sketch.norm(weights)  # of the weights before

    def record(self, gradient: Any, weights: Any) -> tuple[Any, Any]:
        """Record a step with this gradient (which is kept, so pass a copy) that led to `weights`.

        Returns the cosine with the gradient of the step before, which comes from another batch (0 at the first step),
        and the distance of the weights from those before the probe, divided by their norm.
        """
        before, self._gradient = self._gradient, gradient
        moved = self._sketch.norm(weights - self._begin) / (self.norm + 1e-30)
        return 0.0 * moved if before is None else self._sketch.cosine(before, gradient), moved
