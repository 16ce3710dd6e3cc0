"""What a policy says of itself, as JSON in the metadata of its ONNX file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar, cast

import numpy as np

from lrpilot import digests
from lrpilot.decisions import features
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.cadence import CadenceSpec
from lrpilot.decisions.guess import GuessSpec
from lrpilot.decisions.protocol import Protocol

FORMAT = 5
KEY = "lrpilot"  # metadata key of the manifest
CHECKSUM = "checksum"  # the manifest's entry that covers all others

Section = TypeVar("Section", CadenceSpec, ActionEquation, GuessSpec)


class BundleError(ValueError):
    """A policy file cannot be used. The message names the file, what is wrong with it, and what to do."""


@dataclass(frozen=True)
class Golden:
    """Observations of recorded trainings, and the answers of the trained networks to them before the export.

    Attributes:
        observations: (K, F), float32 in its shortest exact notation.
        actions: (K,), likewise.
    """

    observations: tuple[tuple[float, ...], ...]
    actions: tuple[float, ...]

    @classmethod
    def of(cls, observations: np.ndarray, actions: np.ndarray) -> Golden:
        """From arrays (K, F) and (K,)."""
        rows, answers = np.asarray(observations, np.float32), np.asarray(actions, np.float32)
        return cls(tuple(map(_shortest, rows)), _shortest(answers))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Observations (K, F) and actions (K,), both float32."""
        return np.array(self.observations, np.float32), np.array(self.actions, np.float32)


@dataclass(frozen=True)
class Manifest:
    """The description of a policy inside its file, as plain JSON.

    Attributes:
        format: of the manifest.
        features_version: of the meaning of the features.
        features: names of the features that the network observes, in its order.
        protocol: the decision process that the policy was trained in.
        optimizers: kinds of optimizers in the training data.
        training: algorithm, parameters, hash of the data, commit.
        evaluation: summary of the evaluation; empty before it.
        licence: of the weights.
        graph: sha256 of the ONNX file without its metadata.
        golden: observations, and the answers before the export.
    """

    format: int
    features_version: int
    features: tuple[str, ...]
    protocol: Protocol
    optimizers: tuple[str, ...]
    training: dict[str, Any]
    evaluation: dict[str, Any]
    licence: str = "Apache-2.0"
    # The export fills in the rest.
    graph: str = ""
    golden: Golden = Golden((), ())

    def to_json(self) -> str:
        raw = asdict(self)
        return _dump(raw | {CHECKSUM: _checksum(raw)})

    @classmethod
    def from_json(cls, text: str, where: str, graph: str) -> Manifest:
        """Read the manifest of a file whose graph has the sha256 `graph`; `where` names the file in errors.

        Raises BundleError for another format, unknown features, another graph, a changed entry, or a section that is
        missing or odd.
        """
        try:
            raw = json.loads(text)
            number, unchanged = raw["format"], raw.pop(CHECKSUM, None) == _checksum(raw)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(f"{where}: its manifest is not readable ({error!r}); export the policy again") from error
        if number != FORMAT:
            raise BundleError(
                f"{where}: bundle format {number!r}, this lrpilot reads format {FORMAT}; "
                + ("upgrade lrpilot: pip install -U lrpilot" if _newer(number) else "export the policy again")
            )
        if not unchanged:
            raise BundleError(f"{where}: its manifest was changed or damaged; fetch or export the policy again")
        if raw.get("graph") != graph:
            raise BundleError(
                f"{where}: its graph has sha256 {graph}, its manifest is of {raw.get('graph')!r}: the file is damaged "
                "or the manifest another policy's; fetch or export the policy again"
            )
        try:
            _check_features(raw, where)
            raw = _exactly(cls, raw, "manifest")
            protocol = _exactly(Protocol, raw["protocol"], "protocol")
            golden = _exactly(Golden, raw["golden"], "golden")
            raw["protocol"] = Protocol(
                _section(CadenceSpec, protocol["cadence"], "cadence"),
                _section(ActionEquation, protocol["action"], "action"),
                _section(GuessSpec, protocol["guess"], "guess"),
            )
            raw["features"], raw["optimizers"] = tuple(raw["features"]), tuple(raw["optimizers"])
            raw["golden"] = _golden(golden["observations"], golden["actions"], len(raw["features"]))
            return cls(**raw)
        except BundleError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"{where}: its manifest misses or misnames a field ({error}); export the policy again"
            ) from error


def _check_features(raw: dict[str, Any], where: str) -> None:
    """A policy observes some features of the table, in an order of its own: others do not matter to it."""
    version, names = raw.get("features_version"), tuple(map(str, raw.get("features", ())))
    if version != features.VERSION:
        raise BundleError(
            f"{where}: made for features version {version!r}, this lrpilot computes version {features.VERSION}; "
            "install the lrpilot that exported it, or export it again"
        )
    if odd := sorted(set(names) - set(features.NAMES)):
        raise BundleError(
            f"{where}: observes {', '.join(odd)}, which this lrpilot does not compute; "
            "upgrade lrpilot: pip install -U lrpilot"
        )
    if not names or len(set(names)) < len(names):
        raise BundleError(
            f"{where}: observes {len(names)} features, {len(set(names))} of them different; export it again"
        )


def _exactly(cls: type, raw: Any, name: str) -> dict[str, Any]:
    """`raw` as a dict with an entry for every field and no other, so that no default of the code slips in."""
    if not isinstance(raw, dict):
        raise TypeError(f"{name}: {raw!r}")
    section = cast(dict[str, Any], raw)
    if odd := {f.name for f in fields(cls)} ^ set(section):
        raise KeyError(f"{name}: {sorted(odd)}")
    return section


def _section(cls: type[Section], raw: Any, name: str) -> Section:
    """A section of the protocol: finite numbers, whole ones or truth values where the dataclass says so."""
    section = _exactly(cls, raw, f"protocol.{name}")
    for field in fields(cls):
        value = section[field.name]
        kinds = {"bool": (bool,), "int": (int,)}.get(str(field.type), (int, float))
        if type(value) not in kinds or not np.isfinite(value):
            raise ValueError(f"protocol.{name}.{field.name}: {value!r}, want {field.type}")
    return cls(**section)


def _golden(observations: Any, actions: Any, width: int) -> Golden:
    rows, answers = np.array(observations, np.float64), np.array(actions, np.float64)
    wanted = (len(answers), width)
    if not len(answers) or answers.ndim != 1 or rows.shape != wanted:
        raise ValueError(f"golden: observations {rows.shape} and actions {answers.shape}, want (K, F) and (K,)")
    return Golden(tuple(map(tuple, rows.tolist())), tuple(answers.tolist()))


def _newer(number: Any) -> bool:
    return isinstance(number, int) and number > FORMAT


def _shortest(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(str(value)) for value in values)


def _dump(raw: dict[str, Any]) -> str:
    return json.dumps(raw, sort_keys=True, separators=(",", ":"))


def _checksum(raw: dict[str, Any]) -> str:
    return digests.of_bytes(_dump(raw).encode())
