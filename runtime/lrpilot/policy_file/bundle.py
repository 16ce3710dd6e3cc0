"""One ONNX file that describes itself: the policy network and a JSON manifest in its metadata.

Loading never runs pickled code: the file is protobuf, the manifest JSON. A bundle whose features or format this
version does not know is refused, because a policy fed with other numbers than it was trained on fails silently.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

# Unless it is told so before it is imported, onnxruntime sends usage data, and writes them and an id below HOME.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]

from lrpilot.decisions.features import NAMES
from lrpilot.decisions.protocol import Protocol
from lrpilot.policy_file import onnxfile
from lrpilot.policy_file.manifest import FORMAT, KEY, BundleError, Manifest

ort: Any = onnxruntime  # it comes without types

__all__ = ["DEFAULT", "FORMAT", "INPUT", "KEY", "OUTPUT", "Bundle", "BundleError", "Manifest", "load_policy"]

INPUT, OUTPUT = "observation", "action"
OUTPUTS = [OUTPUT]
MAX_BYTES = 16 * 2**20
OLDEST_OPSET = 7  # of ai.onnx; below it onnxruntime promises nothing
DEFAULT = Path(__file__).parents[1] / "models" / "default" / "policy.onnx"


class Bundle:
    """A loaded policy. It maps observations (runs, F), float32, of all features to actions (runs,), float64.

    It holds the bytes of its file, so the file may change or vanish afterwards. Copies and pickles hold them as well.
    """

    def __init__(self, path: str | os.PathLike[str], content: bytes | None = None) -> None:
        """Load and check a policy file.

        Args:
            path: the file.
            content: the bytes of the file, if they are at hand; then `path` only names them in errors.

        Raises:
            BundleError: this version cannot run the policy.
        """
        self.path = Path(path)
        self.content = _read(self.path) if content is None else content
        self._opset, self.manifest = _checked(self.content, self.path)
        names = self.manifest.features
        self._columns = None if names == NAMES else np.array([NAMES.index(name) for name in names])
        self._run: Callable[..., Any] | None = self._start()

    @property
    def protocol(self) -> Protocol:
        """The decision process that the policy was trained in."""
        return self.manifest.protocol

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Actions (runs,), float64, for observations (runs, F), float32, of all features of this version."""
        return self.respond(observation if self._columns is None else observation[:, self._columns])

    def respond(self, observed: np.ndarray) -> np.ndarray:
        """Actions (runs,), float64, for observations (runs, F'), float32, of the features that the manifest names."""
        run = self._run or self._start()
        x = np.ascontiguousarray(observed, np.float32)
        return run(OUTPUTS, {INPUT: x})[0].astype(np.float64).reshape(len(x))

    def __getstate__(self) -> dict[str, Any]:
        """All but onnxruntime's session, which neither copies nor pickles; the copy's first call makes its own."""
        return self.__dict__ | {"_run": None}

    def _start(self) -> Callable[..., Any]:
        """onnxruntime's call for this policy, kept. Raises BundleError if it cannot run the policy."""
        try:
            session = ort.InferenceSession(self.content, _options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors share no public base class
            if self._opset > (newest := _newest_opset()):
                raise BundleError(
                    f"{self.path}: made for opset {self._opset} of ai.onnx, onnxruntime {ort.__version__} runs "
                    f"{OLDEST_OPSET} to {newest}; upgrade it: pip install -U onnxruntime"
                ) from error
            raise BundleError(
                f"{self.path}: not an ONNX model that onnxruntime {ort.__version__} can load ({str(error).strip()}); "
                "if a newer one made it, pip install -U onnxruntime, else export it again"
            ) from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        width = len(self.manifest.features)
        if not (_is(inputs, INPUT, width) and _is(outputs, OUTPUT, 1)):
            raise BundleError(
                f"{self.path}: its graph maps {_signature(inputs)} to {_signature(outputs)}, want "
                f"{INPUT} (batch, {width}) to {OUTPUT} (batch, 1), float32, for any batch; export it again"
            )
        try:
            session.run(OUTPUTS, {INPUT: np.zeros((1, width), np.float32)})  # the first run of a session takes longest
        except Exception as error:  # as above
            raise BundleError(f"{self.path}: its graph does not run ({str(error).strip()}); export it again") from error
        self._run = session.run
        return session.run


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size <= MAX_BYTES:
            return path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(
            f"{path}: no such file; give 'default', the path of a policy.onnx, or models:/name@alias"
        ) from error
    except OSError as error:
        if path.is_dir():
            raise BundleError(f"{path}: a folder; give the path of the policy.onnx in it") from error
        raise BundleError(f"{path}: not readable ({error})") from error
    raise BundleError(f"{path}: {path.stat().st_size} bytes, a policy has at most {MAX_BYTES}; is this another model?")


def _checked(content: bytes, path: Path) -> tuple[int, Manifest]:
    """Opset and manifest: all that can be said before onnxruntime reads the bytes."""
    try:
        file = onnxfile.read(content)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    if KEY not in file.metadata:
        raise BundleError(f"{path}: an ONNX model without an lrpilot manifest; make one with `make repro`")
    if odd := sorted(set(file.metadata) - {KEY}):
        # Some keys are settings to onnxruntime.
        raise BundleError(f"{path}: has metadata {odd} beside its manifest; export the policy again")
    manifest = Manifest.from_json(file.metadata[KEY], str(path), file.sha256)
    if file.opset < OLDEST_OPSET:
        raise BundleError(
            f"{path}: made for opset {file.opset} of ai.onnx, want {OLDEST_OPSET} or later; export it again"
        )
    return file.opset, manifest


def _is(nodes: Sequence[Any], name: str, columns: int) -> bool:
    """Whether there is just this one input or output: float32, as many columns, any number of rows."""
    if len(nodes) != 1 or (nodes[0].name, nodes[0].type) != (name, "tensor(float)") or len(nodes[0].shape) != 2:
        return False
    batch, width = nodes[0].shape
    return not isinstance(batch, int) and width == columns


def _signature(nodes: Sequence[Any]) -> str:
    return ", ".join(f"{node.name} {node.type} {node.shape}" for node in nodes)


def _options() -> Any:
    """One thread that never spins: a decision is microseconds, and the cores belong to the training."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The bytes were checked as ONNX; onnxruntime would also take its own format, which may say other things.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4
    return options


@lru_cache(maxsize=1)
def _newest_opset() -> int:
    """The newest opset of ai.onnx that this onnxruntime knows."""
    schemas = ort.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    return max(schema.since_version for schema in schemas if schema.domain == "")


def load_policy(ref: str | os.PathLike[str] = "default") -> Bundle:
    """Load a policy.

    Args:
        ref: "default" for the policy that ships with lrpilot, the path of a policy file, or a reference to an MLflow
            registry: "models:/name@alias" or "models:/name/3".

    Returns:
        The policy.

    Raises:
        TypeError: `ref` is no text and no path.
        BundleError: there is no such policy, or this version cannot use it. The message says what to do.
    """
    given: Any = ref
    if not isinstance(given, str | os.PathLike):
        raise TypeError(
            f"policy: {reprlib.repr(given)}, want 'default', the path of a policy.onnx, "
            "models:/name@alias or models:/name/3"
        )
    if str(ref) == "default":
        return Bundle(DEFAULT)
    if str(ref).startswith("models:/"):
        from lrpilot.policy_file.registry import resolve

        return Bundle(*resolve(str(ref)))
    return Bundle(ref)
