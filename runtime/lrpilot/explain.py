"""Features and guard events in plain words, for `Decision.explain`.

The scales undo those of `features.py`: a feature's value goes back to the ratio, cosine or level it was made from.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from lrpilot.features import CLIP, CURVE, GRADS


def _ratio(scale: float, offset: float = 0.0) -> Callable[[float], float]:
    """Undo `scale * log10(ratio) + offset`."""
    return lambda value: 10.0 ** ((value - offset) / scale)


def _times(scale: float) -> Callable[[float], float]:
    """Undo `scale * quantity`."""
    return lambda value: value / scale


# What one number of an observation says: the way back from the feature, and a sentence for what it came from.
WORDS: dict[str, tuple[Callable[[float], float], str]] = {
    "level": (_times(0.5), "level {:+.2f} decades over the reference"),
    "level_to_anchor": (_times(1), "level {:+.2f} decades over the anchor"),
    "level_to_highest": (_times(1), "level {:+.2f} decades over its highest so far"),
    "last_move": (_times(2), "the last decision moved the level by {:+.2f} decades"),
    "loss_total": (_ratio(2), "loss {:.3g} times that before training"),
    "loss_last": (_ratio(10), "last losses {:.3g} times the interval's mean"),
    "loss_slope": (_ratio(10), "loss {:.3g} times that of the interval before"),
    "loss_slope_4": (_ratio(5), "loss {:.3g} times that of four intervals before"),
    "loss_to_best": (_ratio(5), "loss {:.3g} times that of the best interval"),
    "since_best": (_times(0.1), "{:.0f} decisions since the best interval"),
    "loss_noise": (_times(2), "the batch loss scatters by {:.2g} of its mean"),
    "grad_norm": (_ratio(1), "gradient norm {:.3g} times the first interval's"),
    "grad_cos": (_times(3), "cosine {:+.2f} of successive gradients"),
    "update_ratio": (_ratio(0.5, 1.5), "a step moves the weights by {:.1e} of their norm"),
    "update_cos": (_times(2), "cosine {:+.2f} of successive displacements"),
    "weight_norm": (_ratio(3), "weight norm {:.3g} times the first interval's"),
    "val_total": (_ratio(2), "validation loss {:.3g} times the first one"),
    "val_slope": (_ratio(20), "validation loss {:.3g} times the one before"),
    "val_slope_4": (_ratio(8), "validation loss {:.3g} times that of four before"),
    "val_to_best": (_ratio(5), "validation loss {:.3g} times the best one"),
    "val_gap": (_ratio(2), "validation loss {:.3g} times the training loss"),
    "probe_blowup": (_times(0.5), "blow-up {:+.2f} decades over the reference"),
    "probe_lowest": (_times(1), "lowest loss {:+.2f} decades from the blow-up"),
    "probe_steepest": (_times(1), "steepest descent {:+.2f} decades from the blow-up"),
    "probe_noise": (_times(2), "the first losses scatter by {:.2g} of their mean"),
    **{f"probe_loss_{d:g}": (_ratio(3), f"loss {{:.3g}} times the first, {d:+g} from blow-up") for d in CURVE},
    **{f"probe_grad_{d:g}": (_ratio(1), f"gradient {{:.3g}} times the first, {d:+g} from blow-up") for d in GRADS},
}  # fmt: skip

# Facts of the training or of the clock rather than findings: explained by none.
FACTS = (
    "progress", "log_progress", "first", "interval", "log_steps", "is_sgd", "has_epochs", "log_epochs", "has_examples",
    "log_examples", "has_val", "probed", "probe_blown",
)  # fmt: skip

SOURCES = {"loss_": "loss_mean", "grad_": "grad_norm", "update_": "update_norm", "weight_": "weight_norm"}

EVENTS = {
    "no_progress": "nothing was learned; the training begins again, a decade lower",
    "loss_nonfinite": "the interval's loss is nan or inf",
    "gradient_nonfinite": "the gradient norm is nan or inf",
    "loss_missing": "no loss was reported in the interval",
    "loss_runaway": "the loss is far above that before training",
    "spike": "the last losses lie far above those of the intervals before",
    "drift": "the loss has been rising for several intervals",
    "policy_failed": "the policy raised; the built-in schedule answers",
    "action_nonfinite": "the policy answered nan or inf; the built-in schedule answers",
    "action_out_of_bounds": "the policy answered outside [-1, 1]; the built-in schedule answers",
    "recovery": "after a cut the level climbs no faster than this, after a restart no higher",
}


def say(name: str, value: float) -> str:
    """One feature in words; of one that is not known, nothing."""
    if name not in WORDS:
        return ""
    undo, sentence = WORDS[name]
    return sentence.format(undo(value)) + (", or beyond" if abs(value) >= CLIP else "")


def findings(observation: dict[str, float], telemetry: dict[str, float], most: int) -> list[str]:
    """Names of the largest findings, largest first: of the probe at the first decision, of the training later.

    Features made from telemetry that is not finite are stand-ins, and left out.
    """
    first = bool(observation.get("first"))
    void = tuple(prefix for prefix, source in SOURCES.items() if not math.isfinite(telemetry.get(source, 0.0)))
    told = {
        name: abs(value)
        for name, value in observation.items()
        if value and name not in FACTS and name.startswith("probe_") == first and not name.startswith(void)
    }
    return sorted(told, key=lambda name: -told[name])[:most]
