"""Tiny seeded worlds: a workload that trains in milliseconds, a parameter file for one quick collection."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from pipeline.config import load, overlay, read
from pipeline.workloads.base import REGIMES, Data, Workload
from pipeline.workloads.families import FAMILIES
from policy.settings import TrainConfig
from repository import TOP

torch.set_num_threads(1)  # worlds this small only lose by threads

COLLECT = {
    "seed": 5,
    "families": {"spirals": 2.0, "illconditioned": 1.0, "regression": 1.0},
    "tasks": 4,
    "runs_per_task": 3,
    "no_probe_share": 0.3,
    "schedules": {"constant": 1.0, "cosine": 1.0, "random_walk": 1.0},
    "branches": {"share": 0.0, "levels": 0, "moves": 0, "twins": 2, "dear": 2, "base": "hold", "rolled_in": 0.0},
    "behaviour_policies": [],
    "epsilon": 0.3,
    "epsilon_decay": 0.95,
    "val_examples": 32,
    "engine": "local",
    "workers": 1,
    "time_limit": 600,
    "device": "cpu",
}


def world(optimizer: str = "adam", n_steps: int = 200, weight_decay: float = 0.0) -> Workload:
    """Three classes in six dimensions, told apart by a small tanh network."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((320, 6))
    y = torch.from_numpy((x @ rng.standard_normal((6, 3))).argmax(1))
    x = torch.from_numpy(x).float()
    splits = (Data(x[i], y[i]) for i in (slice(0, 192), slice(192, 256), slice(256, 320)))
    return Workload(
        "tiny", f"tiny-{optimizer}", *splits,
        build=lambda: torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Linear(12, 3)),
        loss=torch.nn.functional.cross_entropy, error=lambda out, y: (out.argmax(-1) != y).float().mean(),
        baseline_loss=1.1, optimizer=optimizer, batch_size=16, n_steps=n_steps, weight_decay=weight_decay,
    )  # fmt: skip


def write_params(root: Path, **changed: Any) -> Path:
    """Write ROOT/params.yaml: the default profile with a collection of seconds; returns ROOT.

    The regimes have the shares that the weights of their families come to.
    """
    root.mkdir(parents=True, exist_ok=True)
    collection = COLLECT | changed
    shares = dict.fromkeys(REGIMES, 0.0)
    for name, weight in collection["families"].items():
        regime = FAMILIES[name].regime if name in FAMILIES else "ordinary"
        shares[regime] += weight / sum(collection["families"].values())
    content = overlay(read(TOP / "params.yaml"), {"regimes": shares, "collect": collection})
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return root


def learner(algorithm: str, **changed: Any) -> TrainConfig:
    """What a small agent learns by, from whole runs."""
    small = {
        "learns_from": "runs", "steps": 30, "batch_size": 16, "gamma": 1.0, "n_step": 1, "alpha": 0.0, "hidden": (8,),
        "dropout": 0.0,
    }  # fmt: skip
    return replace(load(TOP).train, algorithm=algorithm, **(small | changed))


def with_few_steps(root: Path) -> Path:
    """Let the agents of ROOT/params.yaml be two that train for moments; returns ROOT."""
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(overlay(read(path), {"train": {"seeds": [0, 1], "steps": 40}}), sort_keys=False))
    return root
