"""THE computation of observations: raw telemetry -> features, for one run or a batch of runs.

Collection, offline training and the runtime scheduler all call this module; nothing else computes a feature. Here
stand the quantities; how a quantity becomes a feature stands in the table of `features.py`. Every feature is clipped to
[-CLIP, CLIP]; what was not measured is 0 and has a flag that says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lrpilot.decisions.features import BY_NAME, CLIP, LEAST, NAMES, PROBE_GRAD, PROBE_LOSS, PROBE_NAMES
from lrpilot.decisions.network_size import UNKNOWN, NetworkSize
from lrpilot.decisions.optimizer_kinds import REFERENCES
from lrpilot.probing.probe_curve import Landmarks, levels

MEMORY = 4  # decisions that slopes look back
STATE = (
    "loss0",
    "losses",
    "best",
    "since",
    "grad0",
    "weight0",
    "val0",
    "vals",
    "val_best",
    "probe",
    "size",
    "edge_step",
)
PLACE = {name: i for i, name in enumerate(NAMES)}
PROBE_PLACES = np.array([PLACE[name] for name in PROBE_NAMES])


@dataclass
class Observer:
    """Turns the telemetry of `runs` trainings of equal length into observations, decision by decision.

    The state is a fixed set of (runs,) and (MEMORY + 1, runs) arrays, so it grows with nothing. nan means "not known
    yet".
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
    probe: np.ndarray = field(init=False)  # (runs, len(PROBE_NAMES)) features
    size: np.ndarray = field(init=False)  # (4, runs) facts of `NetworkSize`, nan where they are not known
    edge_step: np.ndarray = field(init=False)  # (runs,) at the probe's edge: step of a weight, or of all under SGD

    def __post_init__(self) -> None:
        for name in ("loss0", "grad0", "weight0", "val0", "edge_step"):
            setattr(self, name, np.full(self.runs, np.nan))
        self.size = np.full((len(UNKNOWN), self.runs), np.nan)
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
            values, mine = np.array(state[name], np.float64), getattr(self, name)
            if values.size != mine.size:
                raise ValueError(
                    f"observer.{name}: the saved state has {values.size} numbers, this version of lrpilot wants "
                    f"{mine.size}; go on with the version that saved it"
                )
            setattr(self, name, values.reshape(mine.shape))

    def set_size(self, size: NetworkSize) -> None:
        """Say how large the networks are."""
        self.size = np.stack([np.broadcast_to(np.asarray(fact, np.float64), self.runs) for fact in size])

    def add_probe(self, marks: Landmarks, grad_norm: np.ndarray, edge: np.ndarray, which: np.ndarray) -> None:
        """Take in the finished probes of the runs `which` (runs,) bool.

        grad_norm (runs, probe_steps) or nan; edge (runs,): level that landmarks are counted from.
        """
        with np.errstate(all="ignore"):
            quantities = {
                "probed": 1.0,
                "probe_blowup": edge,
                "probe_blown": marks.blown,
                "probe_lowest": marks.lowest - edge,
                "probe_steepest": marks.steepest - edge,
                "probe_noise": marks.noise,
            }
            columns = {name: BY_NAME[name].scaled(quantity) for name, quantity in quantities.items()}
            columns |= _curve(PROBE_LOSS, marks.smooth / marks.loss0[:, None], edge, which)
            begin = np.argmax(np.isfinite(grad_norm), axis=1)  # the first step that is on the curve
            begin_norm = grad_norm[np.arange(self.runs), begin][:, None]
            columns |= _curve(PROBE_GRAD, grad_norm / begin_norm, edge, which)
            # A step of an Adam kind moves each weight by the rate, one of SGD all of them by that times the gradient.
            step = 10.0 ** (REFERENCES["sgd" if self.is_sgd else "adam"] + edge)
            self.edge_step = np.where(which, step * begin_norm[:, 0] if self.is_sgd else step, self.edge_step)
        values = np.stack([np.broadcast_to(columns[name], self.runs) for name in PROBE_NAMES], axis=1)
        self.probe = np.where(which[:, None], values, self.probe)
        self.loss0 = np.where(which, marks.loss0, self.loss0)

    @property
    def blown(self) -> np.ndarray:
        """(runs,) bool: whose probe has ended with a blow-up."""
        return self.probe[:, PROBE_NAMES.index("probe_blown")] > 0

    def add_interval(self, interval: dict[str, Any]) -> None:
        """Take in one interval's telemetry: the fields of `telemetry.INTERVAL`, each (runs,)."""
        mean = np.asarray(interval["loss_mean"], np.float64)
        self.loss0 = np.where(np.isnan(self.loss0), mean, self.loss0)
        self.losses = np.concatenate([mean[None], self.losses[:-1]])
        better = mean < self.best
        self.best, self.since = np.where(better, mean, self.best), np.where(better, 0.0, self.since + 1)
        self.grad0 = np.where(np.isnan(self.grad0), interval["grad_norm"], self.grad0)
        self.weight0 = np.where(np.isnan(self.weight0), interval["weight_norm"], self.weight0)
        self.add_validation(interval["val_loss"])

    def begin_again(self, which: np.ndarray) -> None:
        """Forget what the runs `which` (runs,) bool have done since their start."""
        self.losses[:, which] = self.vals[:, which] = np.nan
        self.best[which] = self.val_best[which] = np.inf
        self.since[which] = 0.0

    def add_validation(self, val_loss: Any) -> None:
        """Take in validation losses (runs,); nan where none was observed."""
        val = np.asarray(val_loss, np.float64)
        new = ~np.isnan(val)
        if not np.count_nonzero(new):
            return
        val = np.broadcast_to(val, (self.runs,))
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
        """Observation (runs, F) float32 at one decision; features that are not finite are CLIP."""
        progress = np.asarray(step, np.float64) / self.total_steps
        quantities: dict[str, Any] = {
            "progress": progress,
            "log_progress": progress + 1e-3,
            "first": interval is None,
            "last_move": last_move,
            "log_steps": self.total_steps,
            "is_sgd": 1.0 if self.is_sgd else -1.0,
            "since_best": self.since,
        }
        out = np.zeros((len(NAMES), self.runs))
        with np.errstate(all="ignore"):
            if interval is not None:
                quantities |= {
                    "level": level,
                    "level_to_anchor": level - anchor,
                    "level_to_highest": level - highest,
                    "interval": interval_steps / self.total_steps,
                }
                quantities |= self._training(interval)
            _fill(out, quantities)
            self._fill_validation(out)
            self._fill_epochs(out)
            self._fill_size(out)
        out[PROBE_PLACES] = self.probe.T
        out = np.minimum(np.maximum(np.where(np.isfinite(out), out, CLIP), -CLIP), CLIP)
        return np.ascontiguousarray(out.T, np.float32)

    def _training(self, interval: dict[str, Any]) -> dict[str, Any]:
        """Quantities of the training loss, and of the sketch."""
        now = self.losses[0]
        return {
            "loss_total": now / self.loss0,
            "loss_last": interval["loss_last"] / now,
            "loss_slope": now / _known(self.losses[1], now),
            "loss_slope_4": now / _known(self.losses[MEMORY], now),
            "loss_to_best": now / self.best,
            "loss_noise": interval["loss_noise"] / np.abs(now),
            "grad_norm": interval["grad_norm"] / self.grad0,
            "grad_cos": interval["grad_cos"],
            "update_ratio": interval["update_norm"] / interval["weight_norm"],
            "update_cos": interval["update_cos"],
            "weight_norm": interval["weight_norm"] / self.weight0,
        }

    def _fill_validation(self, out: np.ndarray) -> None:
        now = self.vals[0]
        known = ~np.isnan(now)
        if not np.count_nonzero(known):  # the default call, whose decisions shall be quick
            return
        quantities = {
            "has_val": known,
            "val_total": now / self.val0,
            "val_slope": now / _known(self.vals[1], now),
            "val_slope_4": now / _known(self.vals[MEMORY], now),
            "val_to_best": now / self.val_best,
            "val_gap": now / _known(_known(self.losses[0], self.loss0), now),
        }
        _fill(out, quantities, known)

    def _fill_epochs(self, out: np.ndarray) -> None:
        if self.steps_per_epoch is not None:
            epochs = self.total_steps / np.asarray(self.steps_per_epoch, np.float64)
            known = ~np.isnan(epochs)
            _fill(out, {"has_epochs": known, "log_epochs": epochs}, known)
        if self.examples is not None:
            known = ~np.isnan(np.asarray(self.examples, np.float64))
            _fill(out, {"has_examples": known, "log_examples": self.examples}, known)

    def _fill_size(self, out: np.ndarray) -> None:
        fan_in, matrices, weights, scale = self.size
        known = ~np.isnan(fan_in)
        if not np.count_nonzero(known):
            return
        facts = {"has_size": known, "log_fan_in": fan_in, "log_matrices": matrices, "log_weights": weights}
        _fill(out, facts | {"log_scale": scale}, known)
        with np.errstate(all="ignore"):
            update = self.edge_step / scale / (np.sqrt(weights) if self.is_sgd else 1.0)
        _fill(out, {"edge_update": update}, known & ~np.isnan(update))


class _Arithmetic(NamedTuple):
    """How n features are scaled together; those with a logarithm come first."""

    names: list[str]
    logs: int  # how many have a logarithm
    places: np.ndarray  # (n,) in an observation
    scale: np.ndarray  # (n, runs), as the others: to repeat a column for every run takes longer than to scale
    divisor: np.ndarray
    offset: np.ndarray


@cache
def _arithmetic(names: tuple[str, ...], runs: int) -> _Arithmetic:
    features = sorted((BY_NAME[name] for name in names), key=lambda feature: not feature.log)

    def column(field: str) -> np.ndarray:
        return np.tile([[float(getattr(feature, field))] for feature in features], runs)

    names_in_order = [feature.name for feature in features]
    return _Arithmetic(
        names_in_order,
        sum(feature.log for feature in features),
        np.array([PLACE[name] for name in names_in_order]),
        *map(column, ("scale", "divisor", "offset")),
    )


def _fill(out: np.ndarray, quantities: dict[str, Any], known: Any = None) -> None:
    """Write the features of `quantities`, each (runs,) or (), into out (F, runs); 0 where they are not `known`."""
    how = _arithmetic(tuple(quantities), out.shape[1])
    values = np.empty_like(how.scale)
    for i, name in enumerate(how.names):
        values[i] = quantities[name]
    np.log10(np.maximum(values[: how.logs], LEAST), out=values[: how.logs])
    values = how.scale * values / how.divisor + how.offset
    out[how.places] = values if known is None else np.where(known, values, 0.0)


def _curve(decades: dict[str, float], ratios: np.ndarray, edge: np.ndarray, which: np.ndarray) -> dict[str, Any]:
    """Features (runs,) by name of the runs `which`: their probe's curve, read so many decades from the edge.

    ratios (runs, probe_steps) is the curve, edge (runs,) a level. The features of one curve are scaled alike.
    """
    z, at = levels(ratios.shape[1]), np.array(list(decades.values()))
    curve = BY_NAME[next(iter(decades))].scaled(ratios)
    values = np.zeros((len(edge), len(at)))
    for i in np.flatnonzero(which):
        values[i] = _read(z, curve[i], edge[i] + at)
    return dict(zip(decades, values.T, strict=True))


def _known(value: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(value), otherwise, value)


def _read(z: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values of a probe's curve at levels `at`, linear between its points; 0 where it has none."""
    good = np.isfinite(values)
    return np.interp(at, z[good], values[good]) if good.any() else np.zeros(len(at))
