"""A policy for small networks and one for large ones in one ONNX graph.

    action = small + share * (large - small),   share = clip(log(weights / FROM) / log(UPTO / FROM), 0, 1)

A policy decides well on networks of the sizes that it was recorded on. So where a policy for small networks is at hand,
it keeps its say there, to the bit, and a new one need only be recorded on large networks. Of a network whose size is
unknown the policy for small ones decides.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from lrpilot.decisions.features import BY_NAME, NAMES
from lrpilot.policy_file.bundle import INPUT, OUTPUT, Bundle

FROM, UPTO = 140_000, 280_000  # weights; between them both policies have a say
SIZE = "log_weights"  # the feature
PREFIX = "small_"


class Small:
    """The policy for small networks that is put beside another one."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._low, self._high = (float(BY_NAME[SIZE].scaled(np.float64(weights))) for weights in (FROM, UPTO))

    @property
    def graph(self) -> str:
        """sha256 of its graph."""
        return self._bundle.manifest.graph

    def of(self, observations: np.ndarray, large: np.ndarray) -> np.ndarray:
        """Actions (n,) of both together for observations (n, F), given those (n,) of the policy for large networks."""
        share = np.clip((observations[:, NAMES.index(SIZE)] - self._low) / (self._high - self._low), 0, 1)
        small = self._bundle(observations)
        return small + share * (large - small)

    def put_beside(self, model: onnx.ModelProto) -> None:
        """Add the policy to the graph of `model`, in place, which then answers for both.

        Raises ValueError if the two were made for different opsets.
        """
        small = onnx.compose.add_prefix(onnx.load_from_string(self._bundle.content), PREFIX)
        own, other = (max(opset.version for opset in each.opset_import) for each in (model, small))
        if own != other:
            raise ValueError(f"{self._bundle.path}: made for opset {other}, want {own}; export it again")
        graph = model.graph
        for node in graph.node:
            node.output[:] = ["large_action" if name == OUTPUT else name for name in node.output]
            node.input[:] = ["large_action" if name == OUTPUT else name for name in node.input]
        constants = {
            "small_columns": np.array([NAMES.index(name) for name in self._bundle.manifest.features]),
            "size_column": np.array([NAMES.index(SIZE)]), "low": np.float32(self._low),
            "width": np.float32(self._high - self._low), "zero": np.float32(0), "one": np.float32(1),
        }  # fmt: skip
        graph.initializer.extend(numpy_helper.from_array(np.asarray(v), f"by_{k}") for k, v in constants.items())
        graph.initializer.extend(small.graph.initializer)
        graph.value_info.extend(small.graph.value_info)
        graph.node.extend([
            helper.make_node("Gather", [INPUT, "by_small_columns"], [f"{PREFIX}{INPUT}"], axis=1),
            *small.graph.node,
            helper.make_node("Gather", [INPUT, "by_size_column"], ["by_size"], axis=1),
            helper.make_node("Sub", ["by_size", "by_low"], ["by_above"]),
            helper.make_node("Div", ["by_above", "by_width"], ["by_place"]),
            helper.make_node("Clip", ["by_place", "by_zero", "by_one"], ["by_share"]),
            helper.make_node("Sub", ["large_action", f"{PREFIX}{OUTPUT}"], ["by_away"]),
            helper.make_node("Mul", ["by_share", "by_away"], ["by_shift"]),
            helper.make_node("Add", [f"{PREFIX}{OUTPUT}", "by_shift"], [OUTPUT]),
        ])  # fmt: skip
