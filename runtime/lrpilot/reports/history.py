"""What a pilot did, decision by decision: to print, to plot, to log, and to save with a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from textwrap import wrap
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lrpilot.reports import listing
from lrpilot.reports.explain import EVENTS, findings, is_alarm, say
from lrpilot.text import counted

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingTypeStubs]

LISTED = 6  # features that an explanation lists
METRICS = tuple(
    f"lrpilot/{name}"
    for name in (
        "lr", "level", "action", "guard", "loss", "loss_noise", "val_loss", "grad_norm", "update_ratio", "probe",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Decision:
    """One decision. All values are plain Python; missing numbers are nan.

    Two decisions are equal if all their fields are. For this, nan equals nan.

    Attributes:
        step: number of completed optimizer steps.
        lr_before: rate of the step that follows, if the level were held.
        lr: rate of the step that follows. Both are those of the level: in a warm-up the step itself takes less.
        action: the policy's answer, usually in [-1, 1]; nan if it failed.
        applied: the action after a first guess and the guard.
        level: decades over the reference rate of the optimizer kind, before the envelope.
        confidence: how clearly the loss fell in the probe, from 0, where it is mostly noise, to 1; nan at later
            decisions and without a probe.
        event: the guard's event, or None.
        observation: features by name; `lrpilot.decisions.features` has their table.
        telemetry: measurements of the interval before the decision, by name; empty at the first decision.
    """

    step: int
    lr_before: float
    lr: float
    action: float
    applied: float
    level: float
    confidence: float
    event: str | None
    observation: dict[str, float]
    telemetry: dict[str, float]

    def row(self) -> dict[str, Any]:
        """All fields in one flat dict, with features as observation_NAME and telemetry as telemetry_NAME."""
        flat = {name: getattr(self, name) for name in SCALARS}
        flat |= {f"observation_{name}": value for name, value in self.observation.items()}
        return flat | {f"telemetry_{name}": value for name, value in self.telemetry.items()}

    def metrics(self) -> dict[str, float]:
        """The figures that `log=` gets, such as "lrpilot/lr"; values that are not finite are left out."""
        measured = {name: self.telemetry.get(name, math.nan) for name in ("loss_noise", "val_loss", "grad_norm")}
        moved, norm = (self.telemetry.get(name, math.nan) for name in ("update_norm", "weight_norm"))
        values = measured | {
            "lr": self.lr,
            "level": self.level,
            "action": self.action,
            "guard": float(is_alarm(self.event)),
            "probe": 0.0,
            "loss": self.telemetry.get("loss_mean", math.nan),
            "update_ratio": moved / norm if norm else math.nan,
        }
        named = {name: values[name.removeprefix("lrpilot/")] for name in METRICS}
        return {name: float(value) for name, value in named.items() if math.isfinite(value)}

    def explain(self) -> str:
        """The decision in words: the largest features, the answer, the rate, and the guard's event.

        The first decision shows the features of the probe, later ones those of the training.
        """
        names = findings(self.observation, self.telemetry, LISTED)
        odd = [name for name, value in self.telemetry.items() if name != "val_loss" and not math.isfinite(value)]
        lines = [f"decision after {counted(str(self.step), 'step')}"]
        if "progress" in self.observation:
            lines[0] += f", {(self.observation['progress'] + 1) / 2:.0%} of the training"
        largest = [f"{name:<17} {self.observation[name]:+6.2f}  {say(name, self.observation[name])}" for name in names]
        lines += _block("saw", largest or ["nothing"])
        if odd:
            lines += _block("missed", wrap(f"not finite or not measured: {', '.join(odd)}", 88))
        if self.confidence < 1:
            lines += _block("doubted", [f"the probe saw much noise: confidence {self.confidence:.2g}, of 0 to 1"])
        lines += _block("answered", [f"{self.action:+.3g}, of -1 to 1"])
        rate = f"{self.lr:.3g}" if self.observation.get("first") else f"from {self.lr_before:.3g} to {self.lr:.3g}"
        lines += _block("did", [f"learning rate {rate}", f"level {self.level:+.2f} decades over the reference"])
        if self.event is not None:
            said = [": ".join(filter(None, (self.event, EVENTS.get(self.event))))]
            if not _same(self.action, self.applied):
                said.append(f"applied {self.applied:+.3g} in place of the answer")
            lines += _block("guard", said)
        return "\n".join(line.rstrip() for line in lines)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        mine, theirs = self.row(), other.row()
        return mine.keys() == theirs.keys() and all(_same(value, theirs[name]) for name, value in mine.items())


FIELDS = tuple(field.name for field in fields(Decision))
SCALARS = FIELDS[:-2]


class History(Sequence[Decision]):
    """The decisions of a training so far, oldest first: a sequence. A training of any length has about 44.

    Printed, it is a table of the first decision, those with a guard event, and the latest ones.
    """

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._decisions = list(decisions)

    def append(self, decision: Decision) -> None:
        self._decisions.append(decision)

    def __len__(self) -> int:
        return len(self._decisions)

    @overload
    def __getitem__(self, index: int) -> Decision: ...
    @overload
    def __getitem__(self, index: slice) -> History: ...
    def __getitem__(self, index: int | slice) -> Decision | History:
        return History(self._decisions[index]) if isinstance(index, slice) else self._decisions[index]

    def __eq__(self, other: object) -> bool:
        return self._decisions == other._decisions if isinstance(other, History) else NotImplemented

    def array(self) -> np.ndarray:
        """A structured array (decisions,) with the columns of `Decision.row`; missing values are nan or ""."""
        rows = [decision.row() | {"event": decision.event or ""} for decision in self]
        width = max((len(row["event"]) for row in rows), default=1)
        kinds = {"step": "i8", "event": f"U{max(width, 1)}"}
        columns = _columns(rows)
        values = [tuple(row.get(name, math.nan) for name in columns) for row in rows]
        return np.array(values, [(name, kinds.get(name, "f8")) for name in columns])

    def frame(self) -> pandas.DataFrame:
        """The same as a data frame, with None for no event.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingTypeStubs]
        except ImportError as error:
            raise ImportError("history.frame() needs pandas: pip install pandas; or use history.array()") from error
        rows = [decision.row() for decision in self]
        return pandas.DataFrame(rows, columns=_columns(rows))

    def state(self) -> list[dict[str, Any]]:
        """The history as plain dicts and numbers, for a checkpoint."""
        return [asdict(decision) for decision in self]

    @classmethod
    def from_state(cls, state: Iterable[dict[str, Any]]) -> History:
        """The history that `state` was called on, exactly.

        Args:
            state: what `state` returned.

        Raises:
            ValueError: a decision has unknown or missing fields.
        """
        saved = list(state)
        for at, decision in enumerate(saved):
            if odd := sorted(decision.keys() ^ set(FIELDS)):
                raise ValueError(
                    f"history, decision {at}: unknown or missing fields {odd}; "
                    "load the state with the version of lrpilot that saved it"
                )
        return cls(Decision(**decision) for decision in saved)

    def __repr__(self) -> str:
        return listing.text(self)

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        return listing.html(self)


def _block(title: str, lines: list[str]) -> list[str]:
    return [f"  {title if at == 0 else '':<9}{line}" for at, line in enumerate(lines)]


def _columns(rows: list[dict[str, Any]]) -> list[str]:
    """Names of all columns: scalars, then observation, then telemetry, which the first decision lacks."""
    return list(dict.fromkeys([*SCALARS, *(name for row in rows for name in row)]))


def _same(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)
