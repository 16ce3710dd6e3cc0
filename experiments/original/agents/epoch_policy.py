"""An exported agent of `experiments/original/agents/epochs.py` at run time, with numpy and onnxruntime alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime

from experiments.original.agents.epochs import FEATURES

KEY = "lrpilot.epochs"  # of the file's metadata


class EpochPolicy:
    """Observations (n, F) float32 -> factors (n,) on the learning rate.

    Raises ValueError if the file is not such an agent or uses other features.
    """

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.about = json.loads(self._session.get_modelmeta().custom_metadata_map.get(KEY, "{}"))
        if tuple(self.about.get("features", ())) != FEATURES:
            raise ValueError(f"{path}: sees {self.about.get('features')}, want {list(FEATURES)}; run the learn stage")

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        (factors,) = self._session.run(None, {self._session.get_inputs()[0].name: observations})
        return np.asarray(factors)[:, 0]
