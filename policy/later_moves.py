"""A factor on all moves of a policy after its first action, inside its ONNX graph. 0 holds the level of the first
action.

    action = where(free, a, factor * a)    where a is the network's answer

The first action is always free. By default every action is free in a training that reports the length of its epochs.
Without it a policy cannot know whether lowering the rate early helps or harms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lrpilot.decisions.features import NAMES
from lrpilot.policy_file.bundle import INPUT, OUTPUT

FIRST, TOLD = ("first",), ("has_epochs",)  # features that are above 0 where they hold
PARTS = ("answer", "places", "axis", "zero", "factor", "flags", "most", "free", "less")


@dataclass(frozen=True)
class Factor:
    """What actions are multiplied by, unless one of the features `free` is set."""

    value: float = 1.0
    free: tuple[str, ...] = (*FIRST, *TOLD)

    def leaves(self, observations: np.ndarray) -> np.ndarray:
        """Which actions (n,) bool stay as they are, given the observations (n, F)."""
        return observations[:, self._places()].max(axis=1) > 0

    def of(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """The answers (n,) of a policy with the factor to observations (n, F), given its answers without the factor."""
        return np.where(self.leaves(observations), actions, np.asarray(actions) * np.float32(self.value))

    def put_behind(self, model: onnx.ModelProto) -> None:
        """Append the factor to the graph of `model`, in place. A factor of 1 leaves the graph as it is."""
        if self.value == 1.0:
            return
        graph = model.graph
        prefix = f"later_moves_{len(graph.node)}"  # unique, also where a factor is put behind another
        names = {part: f"{prefix}_{part}" for part in PARTS}
        for node in graph.node:
            node.output[:] = [names["answer"] if output == OUTPUT else output for output in node.output]
            node.input[:] = [names["answer"] if name == OUTPUT else name for name in node.input]
        constants = {
            "places": np.array(self._places()), "axis": np.array([1]), "zero": np.float32(0),
            "factor": np.float32(self.value),
        }  # fmt: skip
        graph.initializer.extend(numpy_helper.from_array(np.asarray(v), names[part]) for part, v in constants.items())
        graph.node.extend([
            helper.make_node("Gather", [INPUT, names["places"]], [names["flags"]], axis=1),
            helper.make_node("ReduceMax", [names["flags"], names["axis"]], [names["most"]], keepdims=1),
            helper.make_node("Greater", [names["most"], names["zero"]], [names["free"]]),
            helper.make_node("Mul", [names["answer"], names["factor"]], [names["less"]]),
            helper.make_node("Where", [names["free"], names["answer"], names["less"]], [OUTPUT]),
        ])  # fmt: skip

    def _places(self) -> list[int]:
        return [NAMES.index(name) for name in self.free]


UNCHANGED = Factor()
