"""What may not reach onnxruntime: read from the bytes of real ONNX files, and of damaged ones."""

import contextlib
import hashlib

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bundles import graph_hash, linear, with_nodes
from lrpilot.policy_file import onnxfile

PLAIN = linear(np.ones((4, 1), np.float32))
BYTES = PLAIN.SerializeToString(deterministic=True)


def external(name: str = "w") -> onnx.TensorProto:
    """A tensor whose values lie in another file."""
    tensor = numpy_helper.from_array(np.ones(1, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def node(op: str = "Identity", domain: str = "", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, ["observation"], ["action"], domain=domain, **attributes)


def subgraph(*nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = ()) -> onnx.GraphProto:
    return helper.make_graph(nodes, "inner", [], [], weights)


def sparse(values: onnx.TensorProto) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.zeros(1, np.int64)), [2])


def model(*nodes: onnx.NodeProto, **changes: object) -> onnx.ModelProto:
    """A model with these nodes and some more fields."""
    made = with_nodes(nodes or (node(),))
    for name, value in changes.items():
        target = made.graph if name.endswith("initializer") else made
        getattr(target, name).extend(value)
    return made


def nested(depth: int) -> onnx.NodeProto:
    inner = node()
    for _ in range(depth):
        inner = node("Loop", body=subgraph(inner))
    return inner


def test_a_plain_model_is_read() -> None:
    file = onnxfile.read(BYTES)
    assert (file.opset, file.metadata, file.sha256) == (18, {}, hashlib.sha256(BYTES).hexdigest())


def test_the_hash_is_of_all_but_the_metadata() -> None:
    model = linear(np.ones((4, 1), np.float32))
    helper.set_model_props(model, {"a": "b", "ü": "", "": "c" * 300})
    file = onnxfile.read(model.SerializeToString())
    assert file.metadata == {"a": "b", "ü": "", "": "c" * 300}
    assert file.sha256 == graph_hash(PLAIN)


@pytest.mark.parametrize(
    "made, message",
    [
        (model(initializer=[external()]), "external data"),
        (model(node("Constant", value=external())), "external data"),
        (model(sparse_initializer=[sparse(external())]), "external data"),
        (model(node("Constant", sparse_value=sparse(external()))), "external data"),
        (model(node("If", then_branch=subgraph(weights=(external(),)))), "external data"),
        (model(node("If", then_branch=subgraph(node("Loop", body=subgraph(weights=(external(),)))))), "external data"),
        (model(node("Zap", tensors=[external()])), "external data"),
        (model(node("Zap", graphs=[subgraph(weights=(external(),))])), "external data"),
        (model(node("Gelu", "com.microsoft")), r"operator com.microsoft.Gelu; a policy has those of ai.onnx alone"),
        (model(node("Scaler", "ai.onnx.ml")), "operator ai.onnx.ml.Scaler"),
        (model(node("Loop", body=subgraph(node("Read", "my.own")))), "operator my.own.Read"),
        (model(functions=[helper.make_function("f", "F", [], [], [], [])]), "functions of its own"),
        (model(training_info=[onnx.TrainingInfoProto()]), "training graph"),
        (model(opset_import=[helper.make_opsetid("ai.onnx", 19)]), "1 graphs and 2 opsets"),
        (model(nested(24)), "nests more than 64 messages deep"),
        (onnx.ModelProto(), "0 graphs and 0 opsets"),
    ],
)  # fmt: skip
def test_what_a_policy_needs_not_is_refused(made: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        onnxfile.read(made.SerializeToString())


@pytest.mark.parametrize(
    "made", [model(node(domain="ai.onnx")), model(nested(20)), model(node("Loop", body=subgraph()))]
)
def test_standard_operators_and_subgraphs_pass(made: onnx.ModelProto) -> None:
    assert onnxfile.read(made.SerializeToString()).opset == 18


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of fewer than 128 bytes, with a tag of two bytes."""
    tag = number << 3 | 2
    return bytes([tag & 0x7F | 0x80, tag >> 7, len(content)]) + content


@pytest.mark.parametrize(
    "content, message",
    [
        (BYTES + BYTES, "2 graphs and 2 opsets"),  # protobuf would merge them
        (BYTES + b"\xba\x80\x80\x80\x10\x00", "field number"),  # protobuf would read field 7 from a tag beyond 32 bits
        (BYTES + b"\x3b\x3c", "wire type 3"),
        (BYTES + b"\x38\x01", "a graph of wire type 0"),
        (BYTES + b"\x00\x00", "field number 0"),
        (BYTES + b"\x3a\x05abc", "reaches 2 bytes too far"),
        (BYTES + b"\x08" + b"\xff" * 11, "an unfinished number"),
        (BYTES + field(14, b"\x0a\x01a\x12\x01\xff"), "not UTF-8"),
        (BYTES + 2 * field(14, b"\x0a\x01a"), "metadata 'a' is there twice"),
    ],
)
def test_what_two_readers_may_read_differently_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        onnxfile.read(content)


def test_a_location_that_is_no_plain_varint_is_read_as_protobuf_does() -> None:
    """Protobuf cuts an enumeration to 32 bits, so 2**32 + 1 means external as 1 does."""
    tensor = numpy_helper.from_array(np.ones(1, np.float32), "w").SerializeToString() + b"\x70\x81\x80\x80\x80\x10"
    assert onnx.TensorProto.FromString(tensor).data_location == TensorProto.EXTERNAL
    graph = field(5, tensor)
    with pytest.raises(ValueError, match="external data"):
        onnxfile.read(field(7, graph))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        onnxfile.read(content)


@given(st.integers(0, len(BYTES) - 1))
def test_a_truncated_file_is_refused(length: int) -> None:
    """But for cuts between two fields after graph and opset, of which this file has none."""
    with pytest.raises(ValueError):
        onnxfile.read(BYTES[:length])


@given(st.integers(0, 8 * len(BYTES) - 1))
def test_a_flipped_bit_is_refused_or_changes_the_hash(bit: int) -> None:
    content = bytearray(BYTES)
    content[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(ValueError):
        assert onnxfile.read(bytes(content)).sha256 != hashlib.sha256(BYTES).hexdigest()


def test_onnxruntime_itself_would_read_the_other_file(tmp_path) -> None:
    """Why all this: a session of the same model opens the file beside it."""
    weights = external()
    del weights.external_data[:]
    weights.external_data.add(key="location", value="w.bin")
    np.full(1, 7.0, np.float32).tofile(tmp_path / "w.bin")
    nodes = [
        helper.make_node("ReduceSum", ["observation", "axes"], ["s"]),
        helper.make_node("Mul", ["s", "w"], ["action"]),
    ]
    made = with_nodes(nodes, [weights, numpy_helper.from_array(np.array([1]), "axes")], 2)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"observation": np.ones((1, 2), np.float32)})[0].item() == 14.0
    with pytest.raises(ValueError, match="external data"):
        onnxfile.read(made.SerializeToString())
