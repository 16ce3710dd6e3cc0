"""THE feature implementation: raw telemetry -> observation, for one run or a batch of runs.

Collection, offline training and the runtime scheduler all call this module; nothing else computes a feature. Every
feature is dimensionless, so that the same policy serves losses of any unit; every one is clipped to [-CLIP, CLIP];
what was not measured is 0 and has a flag that says so. Logarithms are to base 10.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lrpilot.probe import Landmarks, levels

VERSION = 2
CLIP = 5.0
CURVE = (
    -3.0,
    -2.5,
    -2.0,
    -1.5,
    -1.0,
    -0.5,
    0.0,
)  # decades below the blow-up at which the probe's loss is read
GRADS = (-2.0, -1.0, -0.5, 0.0)  # the same for its gradient norm
MEMORY = 4  # decisions that slopes look back

PROBE_NAMES = (
    "probed", "probe_blowup", "probe_blown", "probe_lowest", "probe_steepest", "probe_noise",
    *(f"probe_loss_{d:g}" for d in CURVE), *(f"probe_grad_{d:g}" for d in GRADS),
)  # fmt: skip
NAMES = (
    "progress", "log_progress", "first", "level", "level_to_anchor", "level_to_highest", "last_move",
    "interval", "log_steps", "is_sgd", "has_epochs", "log_epochs", "has_examples", "log_examples",
    "loss_total", "loss_last", "loss_slope", "loss_slope_4", "loss_to_best", "since_best", "loss_noise",
    "grad_norm", "grad_cos", "update_ratio", "update_cos", "weight_norm",
    "has_val", "val_total", "val_slope", "val_slope_4", "val_to_best", "val_gap",
    *PROBE_NAMES,
)  # fmt: skip
STATE = ("loss0", "losses", "best", "since", "grad0", "weight0", "val0", "vals", "val_best", "probe")


def _lg(x: Any) -> np.ndarray:
    return np.log10(np.maximum(x, 1e-30))


def _finish(columns: dict[str, Any], probe: np.ndarray, runs: int) -> np.ndarray:
    """Columns, each (runs,) or a scalar, and the probe's (runs, len(PROBE_NAMES)), last -> (runs, F) float32.

    Non-finite values become CLIP.
    """
    out = np.empty((runs, len(NAMES)), np.float64)
    for i, name in enumerate(NAMES[: -len(PROBE_NAMES)]):
        out[:, i] = columns[name]
    out[:, -len(PROBE_NAMES) :] = probe
    return np.minimum(np.maximum(np.where(np.isfinite(out), out, CLIP), -CLIP), CLIP).astype(np.float32)


@dataclass
class Observer:
    """Turns the telemetry of `runs` trainings of equal length into observations, decision by decision.

    The state is a fixed set of (runs,) and (MEMORY, runs) arrays, so it grows with nothing. nan means "not known yet".
    """

    runs: int
    total_steps: int
    is_sgd: bool
    steps_per_epoch: float | np.ndarray | None = None  # None or nan: unknown
    examples: float | np.ndarray | None = None  # of the training data; None or nan: unknown
    loss0: np.ndarray = field(init=False)
    losses: np.ndarray = field(init=False)  # interval means, latest first
    best: np.ndarray = field(init=False)
    since: np.ndarray = field(init=False)  # decisions since the best interval
    grad0: np.ndarray = field(init=False)
    weight0: np.ndarray = field(init=False)
    val0: np.ndarray = field(init=False)
    vals: np.ndarray = field(init=False)  # observed validation losses, latest first
    val_best: np.ndarray = field(init=False)
    probe: np.ndarray = field(init=False)  # (runs, len(PROBE_NAMES))

    def __post_init__(self) -> None:
        for name in ("loss0", "grad0", "weight0", "val0"):
            setattr(self, name, np.full(self.runs, np.nan))
        self.losses, self.vals = np.full((2, MEMORY + 1, self.runs), np.nan)
        self.best, self.val_best = np.full((2, self.runs), np.inf)
        self.since = np.zeros(self.runs)
        self.probe = np.zeros((self.runs, len(PROBE_NAMES)))

    def state_dict(self) -> dict[str, list[Any]]:
        """The state's arrays as nested lists of floats."""
        return {name: getattr(self, name).tolist() for name in STATE}

    def load_state_dict(self, state: dict[str, list[Any]]) -> None:
        """Take the arrays of a `state_dict` of as many runs."""
        for name in STATE:
            setattr(self, name, np.array(state[name], np.float64).reshape(getattr(self, name).shape))

    def see_probe(self, marks: Landmarks, grad_norm: np.ndarray, which: np.ndarray) -> None:
        """Take in the finished probes of the runs `which` (runs,) bool; grad_norm (runs, probe_steps) or nan."""
        z = levels(marks.smooth.shape[1])
        values = np.zeros_like(self.probe)
        with np.errstate(all="ignore"):
            values[:, 0] = 1.0
            values[:, 1] = marks.blowup / 2
            values[:, 2] = marks.blown
            values[:, 3] = marks.lowest - marks.blowup
            values[:, 4] = marks.steepest - marks.blowup
            values[:, 5] = 2 * marks.noise
            loss = 3 * _lg(marks.smooth / marks.loss0[:, None])
            grad = _lg(grad_norm / grad_norm[:, :1])
            for i in np.flatnonzero(which):
                values[i, 6 : 6 + len(CURVE)] = _read(z, loss[i], marks.blowup[i] + np.array(CURVE))
                values[i, 6 + len(CURVE) :] = _read(z, grad[i], marks.blowup[i] + np.array(GRADS))
        self.probe = np.where(which[:, None], values, self.probe)
        self.loss0 = np.where(which, marks.loss0, self.loss0)

    def see_interval(self, interval: dict[str, Any]) -> None:
        """Take in one interval's telemetry: the fields of `telemetry.INTERVAL`, each (runs,)."""
        mean = np.asarray(interval["loss_mean"], np.float64)
        self.loss0 = np.where(np.isnan(self.loss0), mean, self.loss0)
        self.losses = np.concatenate([mean[None], self.losses[:-1]])
        better = mean < self.best
        self.best, self.since = np.where(better, mean, self.best), np.where(better, 0.0, self.since + 1)
        self.grad0 = np.where(np.isnan(self.grad0), interval["grad_norm"], self.grad0)
        self.weight0 = np.where(np.isnan(self.weight0), interval["weight_norm"], self.weight0)
        self.see_validation(interval["val_loss"])

    def see_validation(self, val_loss: Any) -> None:
        """Take in validation losses (runs,); nan where none was observed."""
        val = np.broadcast_to(np.asarray(val_loss, np.float64), (self.runs,))
        new = ~np.isnan(val)
        if not new.any():
            return
        self.val0 = np.where(np.isnan(self.val0), val, self.val0)
        self.vals = np.where(new, np.concatenate([val[None], self.vals[:-1]]), self.vals)
        self.val_best = np.where(new, np.fmin(self.val_best, val), self.val_best)

    def observation(
        self,
        step: Any,  # completed optimizer steps, scalar or (runs,)
        level: np.ndarray,  # (runs,) current level z, decades
        anchor: np.ndarray,  # (runs,) anchor of the first action
        highest: np.ndarray,  # (runs,) highest level so far
        last_move: np.ndarray,  # (runs,) change of level at the last decision
        interval: dict[str, Any] | None,  # telemetry of the interval that just ended; None at decision 0
        interval_steps: int = 1,
    ) -> np.ndarray:
        """Observation (runs, F) float32 at one decision."""
        first = interval is None
        progress = np.asarray(step, np.float64) / self.total_steps
        c: dict[str, Any] = {
            "progress": 2 * progress - 1, "log_progress": _lg(progress + 1e-3) / 1.5 + 1, "first": float(first),
            "level": 0.0 if first else level / 2, "level_to_anchor": 0.0 if first else level - anchor,
            "level_to_highest": 0.0 if first else level - highest, "last_move": 2 * last_move,
            "interval": 0.0 if first else np.log10(interval_steps / self.total_steps) + 2,
            "log_steps": np.log10(self.total_steps) - 3, "is_sgd": 1.0 if self.is_sgd else -1.0,
            "since_best": self.since / 10,
        }  # fmt: skip
        with np.errstate(all="ignore"):
            c |= self._loss_columns(interval)
            c |= self._validation_columns()
            c |= self._epoch_columns()
        return _finish(c, self.probe, self.runs)

    def _loss_columns(self, interval: dict[str, Any] | None) -> dict[str, Any]:
        if interval is None:
            names = ("loss_total", "loss_last", "loss_slope", "loss_slope_4", "loss_to_best", "loss_noise",
                     "grad_norm", "grad_cos", "update_ratio", "update_cos", "weight_norm")  # fmt: skip
            return dict.fromkeys(names, 0.0)
        now = self.losses[0]
        ratios = {  # by the factor of their logarithm; one call of log10 for all
            "loss_total": (2, now / self.loss0),
            "loss_last": (10, interval["loss_last"] / now),
            "loss_slope": (10, now / _known(self.losses[1], now)),
            "loss_slope_4": (5, now / _known(self.losses[MEMORY], now)),
            "loss_to_best": (5, now / self.best),
            "grad_norm": (1, interval["grad_norm"] / self.grad0),
            "update_ratio": (0.5, interval["update_norm"] / interval["weight_norm"]),
            "weight_norm": (3, interval["weight_norm"] / self.weight0),
        }
        factors, values = zip(*ratios.values(), strict=True)
        columns: dict[str, Any] = dict(zip(ratios, np.array(factors)[:, None] * _lg(np.array(values)), strict=True))
        columns["update_ratio"] += 1.5
        return columns | {
            "loss_noise": 2 * interval["loss_noise"] / np.abs(now),
            "grad_cos": 3 * interval["grad_cos"],
            "update_cos": 2 * interval["update_cos"],
        }

    def _epoch_columns(self) -> dict[str, Any]:
        columns: dict[str, Any] = dict.fromkeys(("has_epochs", "log_epochs", "has_examples", "log_examples"), 0.0)
        if self.steps_per_epoch is not None:
            epochs = self.total_steps / np.asarray(self.steps_per_epoch, np.float64)
            columns["has_epochs"], columns["log_epochs"] = _logarithm(epochs, 1)
        if self.examples is not None:
            columns["has_examples"], columns["log_examples"] = _logarithm(np.asarray(self.examples, np.float64), 3)
        return columns

    def _validation_columns(self) -> dict[str, Any]:
        known = ~np.isnan(self.vals[0])
        if not known.any():  # the default call, whose decisions shall be quick
            return dict.fromkeys(("has_val", "val_total", "val_slope", "val_slope_4", "val_to_best", "val_gap"), 0.0)
        now, loss = np.where(known, self.vals[0], 1.0), _known(self.losses[0], self.loss0)
        columns = {
            "val_total": 2 * _lg(now / self.val0),
            "val_slope": 20 * _lg(now / _known(self.vals[1], now)),
            "val_slope_4": 8 * _lg(now / _known(self.vals[MEMORY], now)),
            "val_to_best": 5 * _lg(now / self.val_best),
            "val_gap": 2 * _lg(now / _known(loss, now)),
        }
        return {"has_val": known} | {name: np.where(known, v, 0.0) for name, v in columns.items()}


def _logarithm(value: np.ndarray, middle: float) -> tuple[np.ndarray, np.ndarray]:
    """Where a number is known, and its logarithm there, less `middle`; elsewhere 0."""
    known = ~np.isnan(value)
    return known, np.where(known, _lg(np.where(known, value, 1.0)) - middle, 0.0)


def _known(value: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(value), otherwise, value)


def _read(z: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values of a probe's curve at levels `at`, linear between its points; 0 where it has none."""
    good = np.isfinite(values)
    return np.interp(at, z[good], values[good]) if good.any() else np.zeros(len(at))
