"""What a policy file may be, and what is said of one that cannot be used."""

import contextlib
import copy
import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bundles import MANIFEST, graph_hash, linear, save, save_as, write_bundle
from lrpilot import Bundle, BundleError, load_policy
from lrpilot.cli import check
from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import NAMES
from lrpilot.policy_file.bundle import DEFAULT, MAX_BYTES
from lrpilot.policy_file.manifest import KEY, Golden
from repository import TOP

F = len(NAMES)
ROWS = np.random.default_rng(0).normal(size=(5, F)).astype(np.float32)


def model(width: int = F) -> onnx.ModelProto:
    return linear(np.full((width, 1), 0.1, np.float32))


def test_a_bundle_answers_and_tells_its_protocol(tmp_path: Path) -> None:
    equation = ActionEquation(span=1.5, rise=0.25)
    path = write_bundle(tmp_path / "policy.onnx", action=equation, weights={"progress": 2.0, "level": -1.0}, bias=0.5)
    bundle = load_policy(path)
    rows = np.zeros((3, F), np.float32)
    rows[1, NAMES.index("progress")], rows[2, NAMES.index("level")] = 1.0, 1.0
    np.testing.assert_allclose(bundle(rows), np.tanh([0.5, 2.5, -0.5]), atol=1e-6)
    assert bundle(rows).shape == (3,)
    assert bundle(rows).dtype == np.float64
    assert bundle.protocol.action == equation
    assert bundle.manifest.features == NAMES


def test_a_policy_observes_what_its_manifest_names(tmp_path: Path) -> None:
    """Features that were added since it was made do not matter, nor does their order."""
    names, weights = ("level", "progress", "is_sgd"), np.array([[0.5], [-1.0], [2.0]], np.float32)
    golden = Golden.of(np.eye(3), np.tanh(weights[:, 0]))
    path = save(linear(weights), MANIFEST, tmp_path / "policy.onnx", features=names, golden=asdict(golden))
    bundle = load_policy(path)
    wanted = np.tanh(ROWS[:, [NAMES.index(name) for name in names]] @ weights)[:, 0]
    np.testing.assert_allclose(bundle(ROWS), wanted, atol=1e-6)
    np.testing.assert_allclose(bundle.respond(np.eye(3)), np.tanh(weights[:, 0]), atol=1e-6)
    assert check(bundle) < 1e-6


def test_rows_of_any_kind_of_number_are_taken(tmp_path: Path) -> None:
    bundle = load_policy(write_bundle(tmp_path / "policy.onnx", weights={"level": 1.0}))
    np.testing.assert_array_equal(bundle(ROWS.astype(np.float64)), bundle(ROWS))
    np.testing.assert_array_equal(bundle(np.asfortranarray(ROWS)), bundle(ROWS))
    assert bundle(ROWS[:0]).shape == (0,)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))])
def test_copies_answer_though_the_file_is_gone(tmp_path: Path, copied: Any) -> None:
    path = write_bundle(tmp_path / "policy.onnx", weights={"level": 1.0, "progress": -0.5})
    bundle = load_policy(path)
    wanted = bundle(ROWS)
    path.unlink()
    other = copied(bundle)
    again = copied(other)  # of one that has not been called
    for loaded in (bundle, other, again):
        np.testing.assert_array_equal(loaded(ROWS), wanted)
        assert loaded.manifest == bundle.manifest
        assert loaded.path == path


def test_a_bundle_reaches_another_process(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "policy.onnx", weights={"level": 1.0})
    bundle = load_policy(path)
    path.unlink()
    code = "import pickle, sys, numpy; b, x = pickle.load(sys.stdin.buffer); print(b(x).tolist())"
    runtime = str(TOP / "runtime")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {runtime!r}); {code}"],
        input=pickle.dumps((bundle, ROWS)), capture_output=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == bundle(ROWS).tolist()


def plain(content: bytes, path: Path) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda p: None, "no such file; give 'default'"),
        (lambda p: p.mkdir(), "a folder; give the path"),
        (lambda p: plain(b"not a model at all", p), "not an ONNX model"),
        (lambda p: plain(b"", p), "not an ONNX model"),
        (lambda p: plain(b"\0" * (MAX_BYTES + 1), p), f"{MAX_BYTES + 1} bytes, a policy has at most {MAX_BYTES}"),
        (lambda p: save_as(model(), {}, p), "without an lrpilot manifest"),
        (lambda p: save_as(model(), {KEY: "{"}, p), "manifest is not readable"),
        (lambda p: save_as(model(), {KEY: "{}"}, p), "manifest is not readable"),
        (lambda p: save_as(model(), {KEY: "[" * 100_000}, p), "manifest is not readable"),
        (lambda p: save_as(model(), {KEY: "[2]"}, p), "manifest is not readable"),
        (lambda p: save(model(), MANIFEST, p, format=6), "format 6, this lrpilot reads format 5; upgrade lrpilot"),
        (lambda p: save(model(), MANIFEST, p, format=1), "format 1, .*reads format 5; export the policy again"),
        (lambda p: save(model(), MANIFEST, p, features_version=99), "features version 99, .*computes version 2"),
        (lambda p: save(model(), MANIFEST, p, features=[*NAMES[1:], "moon"]), "observes moon, which .*; upgrade"),
        (lambda p: save(model(), MANIFEST, p, features=[*NAMES[1:], NAMES[1]]), rf"{F} features, {F - 1} of them"),
        (lambda p: save(model(), MANIFEST, p, features=[]), "observes 0 features"),
        (lambda p: save(model(), MANIFEST, p, features=5), "misses or misnames a field"),
        (
            lambda p: save(model(), MANIFEST, p, protocol={"cadence": {}, "action": {}, "guess": {}}),
            "protocol.cadence: .*early",
        ),
        (lambda p: save(model(), MANIFEST, p, protocol=None), r"misses or misnames a field \(protocol: None"),
        (lambda p: save(model(), MANIFEST, p, surprise=1), "misses or misnames a field .*surprise"),
        (lambda p: save(model(), MANIFEST, p, golden={"observations": [], "actions": []}), "misses .*golden"),
        (lambda p: save(model(), MANIFEST, p, golden={"observations": [[0.0]], "actions": [0]}), r"golden:.*\(1, 1\)"),
        (lambda p: save(model(), MANIFEST, p, graph="0" * 64), "its manifest is of '0000"),
        (lambda p: save_as(model(), {KEY: MANIFEST.to_json().replace("iql", "bc")}, p), "was changed or damaged"),
        (lambda p: save(model(F - 1), MANIFEST, p), rf"maps observation tensor\(float\) \['batch', {F - 1}\] .*want"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "policy.onnx"
    make(path)
    with pytest.raises(BundleError, match=message) as caught:
        load_policy(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["2.5", None, True, float("nan"), float("inf")])
def test_a_protocol_of_other_than_numbers_is_refused(tmp_path: Path, value: Any) -> None:
    protocol = asdict(MANIFEST.protocol)
    protocol["action"]["span"] = value
    with pytest.raises(BundleError, match=r"protocol.action.span: .*want float"):
        load_policy(save(model(), MANIFEST, tmp_path / "policy.onnx", protocol=protocol))
    protocol = asdict(MANIFEST.protocol)
    protocol["cadence"]["window"] = 4.5
    with pytest.raises(BundleError, match=r"protocol.cadence.window: 4.5, want int"):
        load_policy(save(model(), MANIFEST, tmp_path / "policy.onnx", protocol=protocol))


def changed(change: Any) -> onnx.ModelProto:
    made = model()
    change(made)
    return made


def fix_batch(made: onnx.ModelProto) -> None:
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def to_double(made: onnx.ModelProto) -> None:
    made.graph.node[1].output[0] = "single"
    made.graph.node.append(helper.make_node("Cast", ["single"], ["action"], to=TensorProto.DOUBLE))
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def rename(made: onnx.ModelProto) -> None:
    made.graph.input[0].name = made.graph.node[0].input[0] = "state"


def second_output(made: onnx.ModelProto) -> None:
    made.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1]))


def fail_at_run(made: onnx.ModelProto) -> None:
    made.graph.node[1].output[0] = "single"
    made.graph.initializer.append(helper.make_tensor("row", TensorProto.INT64, [1], [9]))
    made.graph.node.append(helper.make_node("Gather", ["single", "row"], ["ninth"]))
    made.graph.node.append(helper.make_node("ReduceSum", ["ninth"], ["number"], keepdims=0))
    made.graph.node.append(helper.make_node("Add", ["single", "number"], ["action"]))


@pytest.mark.parametrize(
    "change, message",
    [
        (fail_at_run, r"its graph does not run .*Gather"),
        (fix_batch, rf"maps observation tensor\(float\) \[1, {F}\]"),
        (to_double, r"to action tensor\(double\)"),
        (rename, r"maps state tensor\(float\)"),
        (second_output, r"to action tensor\(float\) \['batch', 1\], y tensor\(float\)"),
        (lambda m: setattr(m.opset_import[0], "version", 99),
         r"made for opset 99 of ai.onnx, onnxruntime \S+ runs 7 to \d\d; upgrade it: pip install -U onnxruntime"),
        (lambda m: setattr(m.opset_import[0], "version", 6), "made for opset 6 of ai.onnx, want 7 or later"),
        (lambda m: setattr(m, "ir_version", 99), "can load .*IR version.*pip install -U onnxruntime"),
        (lambda m: setattr(m.graph.node[0], "op_type", "Zap"), "can load .*Zap"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"), "operator com.microsoft.Gemm"),
        (lambda m: m.graph.initializer[0].external_data.add(key="location", value="w.bin"), "external data"),
    ],
)  # fmt: skip
def test_a_graph_that_is_no_policy_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load_policy(save(changed(change), MANIFEST, tmp_path / "policy.onnx"))


def test_a_manifest_does_not_travel_with_another_graph(tmp_path: Path) -> None:
    mine, other = model(), linear(np.full((F, 1), 0.2, np.float32))
    fitting = replace(MANIFEST, graph=graph_hash(mine)).to_json()
    assert load_policy(save_as(mine, {KEY: fitting}, tmp_path / "mine.onnx")).manifest.graph == graph_hash(mine)
    with pytest.raises(BundleError, match=f"its graph has sha256 {graph_hash(other)}, its manifest is of"):
        load_policy(save_as(other, {KEY: fitting}, tmp_path / "other.onnx"))


def test_settings_of_onnxruntime_in_the_metadata_are_refused(tmp_path: Path) -> None:
    metadata = {KEY: replace(MANIFEST, graph=graph_hash(model())).to_json(), "ort_config": "{}"}
    with pytest.raises(BundleError, match=r"metadata \['ort_config'\]"):
        load_policy(save_as(model(), metadata, tmp_path / "policy.onnx"))


def test_a_file_that_also_looks_like_onnxruntimes_own_format_is_read_as_onnx(tmp_path: Path) -> None:
    """ORTM at byte 4 marks its own format; what was checked is what must be run."""
    prefix = b"\x9a\x06\x84\x00ORTM"  # an unknown field
    made = onnx.ModelProto.FromString(prefix + model().SerializeToString())
    content = prefix + model().SerializeToString()
    manifest = replace(MANIFEST, graph=hashlib.sha256(content).hexdigest()).to_json()
    helper.set_model_props(made, {KEY: manifest})
    props = onnx.ModelProto(metadata_props=made.metadata_props).SerializeToString()
    np.testing.assert_array_equal(Bundle(tmp_path, content + props)(ROWS), load(tmp_path, model())(ROWS))


def load(folder: Path, made: onnx.ModelProto) -> Bundle:
    return load_policy(save(made, MANIFEST, folder / "policy.onnx"))


CONTENT = DEFAULT.read_bytes()


@given(st.integers(0, 8 * len(CONTENT) - 1))
def test_a_flipped_bit_is_named(bit: int) -> None:
    """But for the case of an exponent's e in the manifest, which says the same."""
    damaged = bytearray(CONTENT)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        assert Bundle("policy.onnx", bytes(damaged)).manifest == load_policy("default").manifest
        assert damaged[bit // 8] == ord("E")
    except BundleError as error:
        assert str(error).startswith("policy.onnx: ")


@given(st.integers(0, len(CONTENT) - 1))
def test_a_cut_file_is_named(length: int) -> None:
    with pytest.raises(BundleError, match=r"policy\.onnx: "):
        Bundle("policy.onnx", CONTENT[:length])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from([None, *asdict(MANIFEST), "protocol.action", "protocol.cadence"]))
def test_a_manifest_of_odd_json_is_refused_or_read(tmp_path_factory: Any, odd: Any, where: str | None) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.onnx"
    if where is None:
        save_as(model(), {KEY: json.dumps(odd)}, path)
    elif "." in where:
        save(model(), MANIFEST, path, protocol=asdict(MANIFEST.protocol) | {where.split(".")[1]: odd})
    else:
        save(model(), MANIFEST, path, **{where: odd})
    with contextlib.suppress(BundleError):
        load_policy(path)


def test_the_default_policy_is_read_and_keeps_its_golden_answers() -> None:
    bundle = load_policy("default")
    observations, wanted = bundle.manifest.golden.arrays()
    np.testing.assert_allclose(bundle.respond(observations), wanted, atol=1e-5)
    assert np.ptp(wanted) > 0.1
