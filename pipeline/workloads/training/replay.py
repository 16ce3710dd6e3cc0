"""A function of tensors, recorded once and then repeated without the transforms that made it.

`torch.func.vmap` and `grad` spend 10 to 30 us on every operation before any arithmetic, more than the arithmetic of a
small model takes. In the end they call one plain sequence of operations, which depends only on the shapes. The first
call records it and later calls repeat it: the same numbers, bit for bit, in half the time on small models. torch's
`make_fx` does the same, but takes a second for a recurrent model, which is as long as it saves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

ATEN = torch.ops.aten
SAME = {ATEN.view.default, ATEN._unsafe_view.default, ATEN.expand.default, ATEN.alias.default, ATEN.detach.default}


class Replay:
    """`fn`, a pure function from tensors to tensors without branches on their values.

    The first call raises RuntimeError if `fn` reads a number out of a tensor.
    """

    def __init__(self, fn: Callable[..., tuple[Tensor, ...]]) -> None:
        self._fn = fn
        self._recorded: dict[tuple[torch.Size, ...], fx.GraphModule] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        shapes = tuple(x.shape for x in inputs)
        graph = self._recorded.get(shapes)
        if graph is None:
            graph = self._recorded[shapes] = _record(self._fn, inputs)
        with torch.no_grad():
            return graph.forward(*inputs)


def _record(fn: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    recorder = _Recorder()
    for i, x in enumerate(inputs):
        recorder.note(x, recorder.graph.placeholder(f"input{i}"))
    with recorder:
        outputs = fn(*inputs)
    recorder.graph.output(tuple(recorder.node(y) for y in outputs))
    return fx.GraphModule(recorder.constants, recorder.graph)


class _Recorder(TorchDispatchMode):
    """Writes every operation below the transforms into a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.graph, self.constants = fx.Graph(), torch.nn.Module()
        self._nodes: dict[int, fx.Node] = {}
        self._alive: list[Tensor] = []  # while recording: an id must not come back as another tensor's

    def note(self, x: Tensor, node: fx.Node) -> None:
        self._nodes[id(x)] = node
        self._alive.append(x)

    def node(self, x: Any) -> Any:
        """The node of a tensor; one that came from outside (a mask, a table) is a constant. Other values pass."""
        if not isinstance(x, Tensor):
            return x
        if id(x) not in self._nodes:
            name = f"constant{len(self._alive)}"
            self.constants.register_buffer(name, x)
            self.note(x, self.graph.get_attr(name))
        return self._nodes[id(x)]

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if op is ATEN._local_scalar_dense.default:
            raise RuntimeError("a function that branches on a tensor's values cannot be replayed")
        out = op(*args, **(kwargs or {}))
        if op in SAME and out.shape == args[0].shape and out.stride() == args[0].stride():
            self.note(out, self.node(args[0]))  # nothing happens
            return out
        made = self.graph.call_function(op, map_aggregate(args, self.node), map_aggregate(kwargs or {}, self.node))
        if isinstance(out, Tensor):
            self.note(out, made)
            return out
        for i, part in enumerate(out):
            self.note(part, self.graph.call_function(operator.getitem, (made, i)))
        return out
