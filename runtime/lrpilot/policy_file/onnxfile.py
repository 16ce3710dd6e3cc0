"""What an ONNX file says of itself, read from its bytes before onnxruntime sees them.

onnxruntime would follow a tensor's "external data" to other files, and runs operators of its own domains, some of which
open files too; no session option forbids either. So the few fields that matter are read here, straight from protobuf's
wire format (https://protobuf.dev/programming-guides/encoding, field numbers: onnx/onnx.proto), and anything that a
policy does not need is refused. Whatever a second reader might understand differently is refused as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot import digests

DOMAINS = ("", "ai.onnx")  # two names of the standard operators
DEPTH = 64  # messages in one another; protobuf's own limit is 100
VARINT, LENGTH = 0, 2  # wire types
WIDTH = {1: 8, 5: 4}  # bytes of the fixed ones

# Fields that hold messages on the way to nodes and tensors: message -> field number -> message.
MESSAGES = {
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor",
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}  # fmt: skip
GRAPH, OPSET, PROPERTY, TRAINING, FUNCTIONS = 7, 8, 14, 20, 25  # fields of a model
NODE_TYPE, NODE_DOMAIN = 4, 7
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14


@dataclass(frozen=True)
class OnnxFile:
    """A model that needs no other file and no operator beyond the standard ones."""

    opset: int  # of ai.onnx
    metadata: dict[str, str]
    sha256: str  # of all but the metadata


class Field(NamedTuple):
    """One field of a message: a number, or the bytes data[begin:end]."""

    number: int
    kind: int  # wire type
    start: int  # of the field's tag
    begin: int  # of its value
    end: int
    value: int  # of a varint, else 0


def read(data: bytes) -> OnnxFile:
    """Read a model's bytes.

    Raises ValueError for bytes that are no ONNX model, and for a model with external data, operators or functions of
    its own, or anything but one graph for one opset of ai.onnx.
    """
    opsets: list[int] = []
    graphs = 0
    metadata: dict[str, str] = {}
    hashed: list[bytes] = []
    for field in _fields(data, 0, len(data)):
        if field.number == PROPERTY:
            key, text = (_text(data, part) for part in _pair(data, field))
            if key in metadata:
                raise ValueError(f"metadata {key!r} is there twice")
            metadata[key] = text
            continue
        hashed.append(data[field.start : field.end])
        if field.number == GRAPH:
            graphs += 1
            _check(data, field, "graph", 0)
        elif field.number == OPSET:
            domain, version = _pair(data, field)
            if _text(data, domain) in DOMAINS:
                opsets.append(0 if version is None else version.value)
        elif field.number in (TRAINING, FUNCTIONS):
            what = "functions of its own" if field.number == FUNCTIONS else "a training graph"
            raise ValueError(f"has {what}; a policy is one plain graph")
    if graphs != 1 or len(opsets) != 1:
        raise ValueError(f"not an ONNX model: {graphs} graphs and {len(opsets)} opsets of ai.onnx, want one each")
    return OnnxFile(opsets[0], metadata, digests.of_parts(hashed))


def _check(data: bytes, message: Field, kind: str, depth: int) -> None:
    """Refuse custom operators and external data in a message and all that it holds."""
    if depth > DEPTH:
        raise ValueError(f"nests more than {DEPTH} messages deep")
    inner, name, domain = MESSAGES[kind], None, None
    for field in _inside(data, message, kind):
        if (child := inner.get(field.number)) is not None:
            _check(data, field, child, depth + 1)
        elif kind == "node" and field.number == NODE_TYPE:
            name = field
        elif kind == "node" and field.number == NODE_DOMAIN:
            domain = field
        elif kind == "tensor" and (
            field.number == TENSOR_EXTERNAL or (field.number == TENSOR_LOCATION and field.value != 0)
        ):
            raise ValueError("keeps weights in another file (external data); export it as one file")
    if (prefix := _text(data, domain)) not in DOMAINS:
        raise ValueError(f"uses the operator {prefix}.{_text(data, name)}; a policy has those of ai.onnx alone")


def _pair(data: bytes, message: Field) -> tuple[Field | None, Field | None]:
    """Fields 1 and 2 of a message, the last of each as protobuf has it."""
    fields = {field.number: field for field in _inside(data, message, "entry")}
    return fields.get(1), fields.get(2)


def _inside(data: bytes, message: Field, kind: str) -> Iterator[Field]:
    if message.kind != LENGTH:
        raise ValueError(f"not an ONNX model: at byte {message.start}: a {kind} of wire type {message.kind}")
    return _fields(data, message.begin, message.end)


def _text(data: bytes, field: Field | None) -> str:
    """A field's text; empty where the field is absent, which is protobuf's default."""
    if field is None:
        return ""
    try:
        return data[field.begin : field.end].decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not an ONNX model: at byte {field.begin}: not UTF-8 text") from error


def _fields(data: bytes, at: int, end: int) -> Iterator[Field]:
    """The fields in data[at:end]. Raises ValueError where they do not fill it exactly."""
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number, kind, value = tag >> 3, tag & 7, 0
        # Readers cut longer tags to 32 bits, and would see another field than the one read here.
        if not 0 < number < 2**29:
            raise ValueError(f"not an ONNX model: at byte {start}: field number {number}")
        begin = at
        if kind == VARINT:
            value, at = _varint(data, at, end)
        elif kind == LENGTH:
            size, begin = _varint(data, at, end)
            at = begin + size
        elif kind in WIDTH:
            at += WIDTH[kind]
        else:
            raise ValueError(f"not an ONNX model: at byte {start}: wire type {kind}")
        if at > end:
            raise ValueError(f"not an ONNX model: at byte {start}: a field reaches {at - end} bytes too far")
        yield Field(number, kind, start, begin, at, value)


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The variable-length integer at data[at:end], and where it ends."""
    value = 0
    for i, byte in enumerate(data[at : min(at + 10, end)]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError(f"not an ONNX model: at byte {at}: an unfinished number")
