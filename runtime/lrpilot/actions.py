"""From an action to a learning rate, and back.

    lr(step) = 10 ** (ref + z) * min(1, (1 - (step + 0.5) / N) / decay) * min(1, (step - begin + 0.5) / (warm_up * N))
    first action:          z <- anchor + span * a
    later ones that move:  z <- z + (rise if a > 0 else fall) * a
    later ones that name:  z <- anchor + span * a, at most `rise` up and `fall` down

`z` is the level in decades over the optimizer kind's reference. The anchor lies a fixed way below the probe's edge, the
level at which its loss blew up. Of some recorded probes the loss saturated instead: there the edge lies as far above
the level of the lowest loss as it does in the others (the median), but not below `calm`, where the anchor is that of a
training without a probe: rates as low as fine-tuning needs stay within reach, whatever the probe did not see.

Where later actions move the level, an action of 0 holds it; where they name it, holding it takes knowing it. The
envelope is part of the equation: the rate climbs linearly to its level in the first `warm_up` of the steps after the
probe, stays there, and falls linearly to zero in the last `decay` of the steps. So holding the level is already a good
schedule, which a policy only has to correct. Hägele et al. 2024 (arXiv:2405.18392) compare such schedules with others;
docs/experiments.md has the comparisons that chose this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrpilot.probe_curve import HIGH, Landmarks

REFERENCE = {"adam": -3.0, "adamw": -3.0, "sgd": -1.0}  # log10 of the textbook learning rate


@dataclass(frozen=True)
class ActionEquation:
    """The part of a policy's manifest that turns actions in [-1, 1] into levels z. All numbers are decades.

    Attributes:
        span: actions reach from anchor - span to anchor + span.
        rise: the most that the level may rise at a later decision.
        fall: the most that it may fall.
        low: lower bound of z.
        high: upper bound of z.
        anchor: anchor of a training without a probe.
        below_blowup: distance of the probe's anchor below its edge.
        above_lowest: if the loss did not blow up, distance of the edge above the level of the lowest loss.
        calm: if the loss did not blow up, the lowest level of the edge.
        moves: whether later actions move the level; else they name it.
        decay: share of the steps, the last ones, in which the rate falls to zero.
        warm_up: share of the steps, the first ones after the probe or a restart, in which the rate climbs to its level.
    """

    span: float = 2.5
    rise: float = 1.0
    fall: float = 1.5
    low: float = -4.0
    high: float = 3.0
    anchor: float = -1.0
    below_blowup: float = 2.0
    above_lowest: float = 1.2
    calm: float = 1.0
    moves: bool = True
    decay: float = 0.5
    warm_up: float = 0.05

    def envelope(self, step: float, total_steps: int) -> float:
        """Factor on the rate of the step that follows `step` completed ones; what lies beyond N keeps the last."""
        last = total_steps - 1
        left = 1.0 - ((step if step < last else last) + 0.5) / total_steps
        return left / self.decay if left < self.decay else 1.0

    def edge(self, marks: Landmarks) -> np.ndarray:
        """Levels (runs,) that a probe's landmarks are counted from: its blow-ups, or what stands for them."""
        return np.where(marks.blown, marks.blowup, _between(marks.lowest + self.above_lowest, self.calm, HIGH))

    def apply(self, level: np.ndarray, anchor: np.ndarray, action: np.ndarray, first: bool) -> np.ndarray:
        """New level (runs,) after `action` (runs,); actions outside [-1, 1] are clipped."""
        action = _between(action, -1.0, 1.0)
        if first or not self.moves:
            target = anchor + self.span * action
        else:
            target = level + np.where(action > 0, self.rise, self.fall) * action
        target = _between(target, anchor - self.span, anchor + self.span)
        if not first:
            target = _between(target, level - self.fall, level + self.rise)
        return _between(target, self.low, self.high)

    def invert(self, level: np.ndarray, anchor: np.ndarray, wanted: np.ndarray, first: bool) -> np.ndarray:
        """The action (runs,) that takes `level` (runs,) closest to `wanted` (runs,)."""
        wanted = _between(wanted, self.low, self.high)
        if first or not self.moves:
            return _between((wanted - anchor) / self.span, -1.0, 1.0)
        away = wanted - level
        return _between(away / np.where(away > 0, self.rise, self.fall), -1.0, 1.0)

    def cautious(self, action: np.ndarray, answer: np.ndarray, anchor: np.ndarray) -> np.ndarray:
        """First actions (runs,) to level 0 at most, and not above that of a policy's `answer` (runs,), if it is one."""
        textbook = self.invert(anchor, anchor, np.zeros(len(anchor)), True)
        return np.minimum(action, np.where(np.abs(answer) <= 1, np.minimum(answer, textbook), textbook))


def _between(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """np.clip, at a third of its cost on few numbers; nan stays nan."""
    return np.minimum(np.maximum(x, low), high)


def reference(optimizer: str) -> float:
    """log10 of the reference learning rate of an optimizer kind."""
    if optimizer not in REFERENCE:
        raise ValueError(f"optimizer: {optimizer!r}, want one of {sorted(REFERENCE)}")
    return REFERENCE[optimizer]
