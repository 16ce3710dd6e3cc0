"""A factor on the moves of a policy after its first action, inside its ONNX graph: 1 changes nothing, 0 holds the level
that the first action sets.

    action = where(first, a, factor * a)    with a the network's answer, and `first` a feature of the observation
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lrpilot.bundle import INPUT, OUTPUT
from lrpilot.features import NAMES

FIRST = NAMES.index("first")


def scale(model: onnx.ModelProto, factor: float) -> None:
    """Put the factor behind the graph of `model`, in place; a factor of 1 leaves it as it is."""
    if factor == 1.0:
        return
    graph = model.graph
    prefix = f"later_moves_{len(graph.node)}"  # unique, also where a factor is put behind another
    names = {part: f"{prefix}_{part}" for part in ("answer", "place", "zero", "factor", "first", "is_first", "later")}
    for node in graph.node:
        node.output[:] = [names["answer"] if output == OUTPUT else output for output in node.output]
        node.input[:] = [names["answer"] if name == OUTPUT else name for name in node.input]
    constants = {"place": np.array([FIRST]), "zero": np.float32(0), "factor": np.float32(factor)}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), names[part]) for part, v in constants.items())
    graph.node.extend([
        helper.make_node("Gather", [INPUT, names["place"]], [names["first"]], axis=1),
        helper.make_node("Greater", [names["first"], names["zero"]], [names["is_first"]]),
        helper.make_node("Mul", [names["answer"], names["factor"]], [names["later"]]),
        helper.make_node("Where", [names["is_first"], names["answer"], names["later"]], [OUTPUT]),
    ])  # fmt: skip


def scaled(observations: np.ndarray, actions: np.ndarray, factor: float) -> np.ndarray:
    """What a policy with the factor answers to observations (n, F), of actions (n,) without it."""
    return np.where(observations[:, FIRST] > 0, actions, np.asarray(actions) * np.float32(factor))
