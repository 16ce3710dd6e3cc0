"""What a policy file may be, and what is said of one that cannot be used."""

import numpy as np
import pytest

from bundles import linear, manifest_json, write_bundle
from lrpilot import BundleError, load_policy
from lrpilot.actions import ActionEquation
from lrpilot.bundle import KEY, MAX_BYTES
from lrpilot.features import NAMES


def test_a_bundle_answers_and_tells_its_protocol(tmp_path):
    equation = ActionEquation(span=1.5, rise=0.25)
    path = write_bundle(tmp_path / "policy.onnx", action=equation, weights={"progress": 2.0, "level": -1.0}, bias=0.5)
    bundle = load_policy(path)
    rows = np.zeros((3, len(NAMES)), np.float32)
    rows[1, NAMES.index("progress")], rows[2, NAMES.index("level")] = 1.0, 1.0
    np.testing.assert_allclose(bundle(rows), np.tanh([0.5, 2.5, -0.5]), atol=1e-6)
    assert bundle(rows).shape == (3,)
    assert bundle.protocol.action == equation
    assert bundle.manifest.features == NAMES


def raw(**changes):
    """A file whose manifest has some fields replaced."""
    return linear(np.zeros((len(NAMES), 1), np.float32), 0.0, True, {KEY: manifest_json(**changes)})


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "no such file; give 'default'"),
        (b"not a model at all", "not an ONNX model that onnxruntime can load"),
        (b"", "not an ONNX model that onnxruntime can load"),
        (b"\0" * (MAX_BYTES + 1), f"{MAX_BYTES + 1} bytes, a policy has at most {MAX_BYTES}"),
        (linear(np.zeros((2, 1), np.float32), 0.0, True, {}), "without an lrpilot manifest"),
        (linear(np.zeros((2, 1), np.float32), 0.0, True, {KEY: "{"}), "manifest is not readable"),
        (linear(np.zeros((2, 1), np.float32), 0.0, True, {KEY: "{}"}), "manifest is not readable"),
        (raw(format=2), "bundle format 2, this lrpilot reads format 1; upgrade lrpilot"),
        (raw(format=0), "bundle format 0, this lrpilot reads format 1; export the policy again"),
        (raw(features_version=2), "features version 2 .*computes version 1"),
        (raw(features=[*NAMES[1:], "moon_phase"]), r"differs in \['moon_phase', 'progress'\]"),
        (raw(features=list(NAMES[::-1])), "differs in order"),
        (raw(protocol={"cadence": {}, "action": {}}), r"misses or misnames a field \(.*protocol.cadence"),
        (raw(surprise=1), "misses or misnames a field .*surprise"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_bundle_is_refused(tmp_path, content, message):
    path = tmp_path / "policy.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError, match=message) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)


def test_features_of_another_lrpilot_are_refused(tmp_path):
    with pytest.raises(BundleError, match="moon_phase"):
        load_policy(write_bundle(tmp_path / "policy.onnx", features=(*NAMES, "moon_phase")))
    with pytest.raises(BundleError, match="upgrade lrpilot"):
        load_policy(write_bundle(tmp_path / "policy.onnx", format=7))
