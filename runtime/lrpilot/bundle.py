"""One ONNX file that describes itself: the policy network and a JSON manifest in its metadata.

Loading never runs pickled code: the file is protobuf, the manifest JSON. A bundle whose features or format this
version does not know is refused, because a policy fed with other numbers than it was trained on fails silently.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from lrpilot import features
from lrpilot.actions import ActionEquation
from lrpilot.cadence import CadenceSpec
from lrpilot.pilot import Protocol

FORMAT = 1
KEY = "lrpilot"  # metadata key of the manifest
INPUT, OUTPUT = "observation", "action"
MAX_BYTES = 16 * 2**20
DEFAULT = Path(__file__).parent / "models" / "default" / "policy.onnx"


class BundleError(ValueError):
    """A policy file that cannot be used, and why."""


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself. All plain JSON."""

    format: int
    features_version: int
    features: tuple[str, ...]
    protocol: Protocol
    optimizers: tuple[str, ...]  # kinds seen in training
    training: dict[str, Any]  # algorithm, steps, seeds, hash of the data, commit
    evaluation: dict[str, Any]  # summary, empty before the evaluation
    licence: str = "Apache-2.0"

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Read a manifest; `where` names the file in errors.

        Raises BundleError for a newer format, unknown features, or a section that is missing or odd.
        """
        try:
            raw = json.loads(text)
            number = raw["format"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BundleError(f"{where}: its manifest is not readable ({error!r}); export the policy again") from error
        if number != FORMAT:
            raise BundleError(
                f"{where}: bundle format {number!r}, this lrpilot reads format {FORMAT}; "
                + ("upgrade lrpilot: pip install -U lrpilot" if _newer(number) else "export the policy again")
            )
        if raw.get("features_version") != features.VERSION or tuple(raw.get("features", ())) != features.NAMES:
            odd = sorted(set(raw.get("features", ())) ^ set(features.NAMES))
            raise BundleError(
                f"{where}: made for features version {raw.get('features_version')!r} (differs in {odd or 'order'}), "
                f"this lrpilot computes version {features.VERSION}; install the lrpilot that exported it, "
                "or export it again"
            )
        try:
            protocol = raw["protocol"]
            raw["protocol"] = Protocol(
                _section(CadenceSpec, protocol, "cadence"), _section(ActionEquation, protocol, "action")
            )
            raw["features"], raw["optimizers"] = tuple(raw["features"]), tuple(raw["optimizers"])
            return cls(**raw)
        except (KeyError, TypeError) as error:
            raise BundleError(
                f"{where}: its manifest misses or misnames a field ({error}); export the policy again"
            ) from error


def _newer(number: Any) -> bool:
    return isinstance(number, int) and number > FORMAT


def _section(cls: type, protocol: dict[str, Any], name: str) -> Any:
    """A manifest's section as its dataclass; every field must be there, so that no default of the code slips in."""
    if missing := {f.name for f in fields(cls)} ^ set(protocol[name]):
        raise KeyError(f"protocol.{name}: {sorted(missing)}")
    return cls(**protocol[name])


class Bundle:
    """A loaded policy: call it with observations (runs, F) float32 for actions (runs,) float64."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises BundleError if `path` is no policy bundle that this version can run."""
        self.path = Path(path)
        if not self.path.is_file():
            raise BundleError(f"{path}: no such file; give 'default', the path of a policy.onnx, or models:/name@alias")
        if (size := self.path.stat().st_size) > MAX_BYTES:
            raise BundleError(f"{path}: {size} bytes, a policy has at most {MAX_BYTES}; is this another model?")
        try:
            self._session = ort.InferenceSession(self.path.read_bytes(), _options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no public base class
            raise BundleError(f"{path}: not an ONNX model that onnxruntime can load ({error})") from error
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise BundleError(f"{path}: an ONNX model without an lrpilot manifest; make one with `make repro`")
        self.manifest = Manifest.from_json(text, str(path))
        names = [i.name for i in self._session.get_inputs()], [o.name for o in self._session.get_outputs()]
        if names != ([INPUT], [OUTPUT]):
            raise BundleError(f"{path}: inputs and outputs are {names}, want {([INPUT], [OUTPUT])}; export it again")

    @property
    def protocol(self) -> Protocol:
        return self.manifest.protocol

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(observation, np.float32)
        return np.asarray(self._session.run([OUTPUT], {INPUT: x})[0], np.float64).reshape(len(x))


def _options() -> ort.SessionOptions:
    """One thread that never spins: a decision is microseconds, and the cores belong to the training."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def load_policy(ref: str | os.PathLike[str] = "default") -> Bundle:
    """The bundle that `ref` names: "default" (ships with lrpilot), a path, or models:/name@alias, models:/name/3.

    Raises BundleError where there is none that this version can use.
    """
    if str(ref) == "default":
        return Bundle(DEFAULT)
    if str(ref).startswith("models:/"):
        from lrpilot.registry import resolve

        return Bundle(resolve(str(ref)))
    return Bundle(ref)
