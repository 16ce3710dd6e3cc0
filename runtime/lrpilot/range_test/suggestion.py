"""What range tests say of a learning rate: the rule, its reason, the picture.

The rule was chosen by measurement (`benchmarks/suggest_rates.py`): a tenth of the rate that lies midway, on the log
axis, between the rate of the lowest loss and that of the blow-up. The point of steepest descent, which LR finders
suggest, is as noisy as a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lrpilot.probing import evidence
from lrpilot.probing.probe import Probes
from lrpilot.probing.probe_curve import LOW, Landmarks, landmarks, smoothing
from lrpilot.reports.style import PLAIN, POLICY, RC

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TESTS = 3
BELOW = 1.0  # decades below the middle of lowest loss and blow-up
LEAST = 0.01  # relative fall of the loss; a smaller one is none
GAP = 0.5  # decades from the lowest loss to the blow-up, where none was met


@dataclass(frozen=True, eq=False)
class Curve:
    """Loss against rate: the mean over the tests, up to the point where the first of them ended.

    Attributes:
        rate: learning rates, (points,).
        loss: loss of the batch that follows the step with that rate, (points,); nan where it was left out as odd.
        smoothed: the same, averaged over 0.3 decades, (points,).
    """

    rate: np.ndarray
    loss: np.ndarray
    smoothed: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Suggestion:
    """A suggested learning rate and its reason. Rates are those of the param group with most parameters.

    Attributes:
        lr: peak rate for a schedule that decays to zero; None if the tests give none.
        lrs: the same for every param group; empty if there is none.
        reason: one sentence.
        lowest: rate of the lowest smoothed loss.
        steepest: rate of the steepest descent of the smoothed loss.
        blowup: rate at which the loss had blown up; None if it did not, up to the highest rate.
        noise: standard deviation of the batch loss, relative to the loss at the start; nan if unknown.
        tests: number of range tests made.
        curve: loss against rate.
    """

    lr: float | None
    lrs: tuple[float, ...]
    reason: str
    lowest: float
    steepest: float
    blowup: float | None
    noise: float
    tests: int
    curve: Curve

    def __repr__(self) -> str:
        marks = {"lowest loss": self.lowest, "steepest descent": self.steepest, "blow-up": self.blowup}
        rates = ", ".join(f"{name} {'nowhere' if lr is None else f'at {lr:.2g}'}" for name, lr in marks.items())
        noise = "unknown" if math.isnan(self.noise) else f"{self.noise:.1%}"
        lr = None if self.lr is None else f"{self.lr:.3g}"
        return f"Suggestion(lr={lr})\n  {self.reason}\n  {rates}; batch noise {noise}; range tests: {self.tests}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the curve and its rates.

        Args:
            ax: matplotlib axes to draw on; by default those of a new figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError("a plot needs matplotlib: pip install matplotlib; or use .curve") from error
        with cast(Any, pyplot).rc_context(RC):
            axes: Any = ax if ax is not None else pyplot.subplots(figsize=(6, 4), layout="constrained")[1]
        ink = pyplot.rcParams["text.color"]
        axes.plot(self.curve.rate, self.curve.loss, ".", color=PLAIN, ms=4, label="batch loss")
        axes.plot(self.curve.rate, self.curve.smoothed, color=ink, lw=1.5, label="smoothed")
        for rate, name, color, style in (
            (self.lowest, "lowest loss", ink, ":"),
            (self.blowup, "blow-up", ink, "--"),
            (self.lr, "suggested", POLICY, "-"),
        ):
            if rate is not None:
                axes.axvline(rate, color=color, ls=style, lw=1.5, label=f"{name} {rate:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend(frameon=False, fontsize="small")
        return axes


def wants_another(tests: Sequence[Probes]) -> bool:
    """Whether one more range test is due: there is none, or the loss fell by no more than batch noise explains."""
    return not tests or (len(tests) < MOST_TESTS and not _falls(_landmarks(tests)))


def suggestion(rates: np.ndarray, tests: Sequence[Probes], of_groups: Callable[[float], list[float]]) -> Suggestion:
    """What range tests from one start, with `rates` (steps,), say; `of_groups` gives the groups' rates for one."""
    marks = _landmarks(tests)
    base = math.log10(rates[0]) - LOW  # level 0
    lowest, blowup = float(np.median(marks.lowest)), float(np.median(np.where(marks.blown, marks.blowup, np.inf)))
    edge = math.isfinite(blowup)
    middle = (lowest + (blowup if edge else lowest + GAP)) / 2
    level = middle - BELOW
    low, high = 10 ** (base + lowest), 10 ** (base + blowup) if edge else None
    lr: float | None = None
    if not any(test.steps[0] for test in tests):
        reason = (
            "the loss is not finite, or wild, at too many of the lowest rates: "
            "look for wrong batches, or for inputs or a loss of huge scale"
        )
    elif high is not None and level < LOW:
        reason = (
            f"the loss blows up among the lowest rates already, at {high:.2g}: "
            "look for a wrong batch, or for inputs or a loss of huge scale"
        )
    elif not _falls(marks):
        reason = (
            f"at no rate does the loss fall by more than the noise of the batches, {np.mean(marks.noise):.1%} of it: "
            "take more steps, larger batches, or a model that has something left to learn"
        )
    else:
        lr = 10 ** (base + level)
        reason = _reason(low, 10 ** (base + middle), high, float(rates[-1]))
    points = max(min((int(test.steps[0]) for test in tests if test.steps[0]), default=0) - 1, 0)
    loss = np.concatenate([test.loss for test in tests]).mean(axis=0)
    return Suggestion(
        lr, () if lr is None else tuple(of_groups(lr)), f"{reason[0].upper()}{reason[1:]}.", low,
        10 ** (base + float(np.median(marks.steepest))), high, float(np.mean(marks.noise)), len(tests),
        Curve(rates[:points], loss[1 : points + 1], marks.smooth.mean(axis=0)[:points]),
    )  # fmt: skip


def _reason(lowest: float, middle: float, blowup: float | None, highest: float) -> str:
    if blowup is None:
        return (
            f"a sixth of the rate of the lowest loss, {lowest:.2g}; up to {highest:.2g} the loss does not blow up, "
            "so nothing says that a higher one is too high"
        )
    return (
        f"a tenth of {middle:.2g}, which lies midway between the rate of the lowest loss, {lowest:.2g}, "
        f"and that of the blow-up, {blowup:.2g}"
    )


def _landmarks(tests: Sequence[Probes]) -> Landmarks:
    """Of the tests that got past the lowest rates, where any did: a wrong batch ends one there."""
    past = [test for test in tests if np.isfinite(test.landmarks().loss0[0])] or tests
    return landmarks(np.concatenate([test.loss for test in past]), np.concatenate([test.steps for test in past]))


def _falls(marks: Landmarks) -> bool:
    """Whether the smoothed loss falls, by more than batch noise explains, on the mean over the tests."""
    keep = smoothing(marks.smooth.shape[1])
    spread = marks.noise * np.abs(marks.loss0) * math.sqrt((1 - keep) / (1 + keep))
    best: np.ndarray = np.min(np.where(np.isfinite(marks.smooth), marks.smooth, np.inf), axis=1)
    noise = float(np.mean(spread)) / math.sqrt(len(spread))
    return float(np.mean(marks.loss0 - best)) > max(evidence.WIDTH * noise, LEAST * float(np.mean(np.abs(marks.loss0))))
