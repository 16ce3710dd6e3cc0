"""A first guess of the learning rate counts for what it is worth: evidence beside the policy's, and no order.

The best level z is taken to be N(p, s_p^2), p being what the policy names. A guess g is N(z, s_g^2), or lies anywhere
in `RANGE` decades with probability `wrong`. The first level is the mean of z that remains:

    d = g - p,   v = s_p^2 + s_g^2
    r = (1 - wrong) N(d; 0, v) / ((1 - wrong) N(d; 0, v) + wrong / RANGE)
    z = p + r s_p^2 / v d

So a guess near p has the say that its precision gives it, and one that lies decades off has none. Where the probe saw
no blow-up, the policy knows less, and s_p is wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lrpilot.decisions.actions import ActionEquation

RANGE = 6.0  # decades that learning rates of one optimizer kind come from


@dataclass(frozen=True)
class GuessSpec:
    """The part of a policy's manifest that says how a first guess is weighed against the policy's choice.

    docs/experiments.md has what other widths gain and lose.

    Attributes:
        named: standard deviation of the policy's choice, in decades.
        calm: the same where the probe saw no blow-up, or there was no probe.
        guessed: standard deviation of a guess, in decades.
        wrong: probability that a guess tells nothing.
    """

    named: float = 0.5
    calm: float = 1.0
    guessed: float = 0.7
    wrong: float = 0.7

    def combined(self, level: np.ndarray, guess: np.ndarray, blown: np.ndarray) -> np.ndarray:
        """Combine levels (runs,) of the policy with guessed ones; where a guess is nan, the policy's level stays."""
        own = np.where(blown, self.named, self.calm) ** 2
        both, away = own + self.guessed**2, guess - level
        likely = (1 - self.wrong) * np.exp(-0.5 * away**2 / both) / np.sqrt(2 * math.pi * both)
        sound = likely / (likely + self.wrong / RANGE)
        return np.where(np.isnan(guess), level, level + sound * own / both * np.nan_to_num(away))

    def revised(
        self, answer: np.ndarray, equation: ActionEquation, anchor: np.ndarray, guess: np.ndarray, blown: np.ndarray
    ) -> np.ndarray:
        """Return first actions (runs,) that take guesses into account, from a policy's answers.

        An answer that is no action stays as it is, for guards to see; so does one without a guess, to the bit.
        """
        known = ~np.isnan(guess) & (np.abs(answer) <= 1)
        if not known.any():
            return answer
        level = self.combined(equation.apply(anchor, anchor, answer, True), guess, blown)
        return np.where(known, equation.invert(anchor, anchor, level, True), answer)
