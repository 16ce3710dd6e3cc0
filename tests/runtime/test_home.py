"""A training leaves nothing below HOME: onnxruntime would write an id of the machine and usage data there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRAIN = """
import torch
from lrpilot.torch import PilotLR

p = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.Adam([p])
scheduler = PilotLR(optimizer, 100)
for _ in range(100):
    loss = p.square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step(loss)
print(len(scheduler.history))
"""
HOMES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "TORCHINDUCTOR_CACHE_DIR")


def run(code: str, home: Path, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in (*HOMES, "ORT_DISABLE_TELEMETRY")}
    environment = kept | {"HOME": str(home), **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_training_writes_nothing_below_home(tmp_path: Path) -> None:
    assert int(run(TRAIN, tmp_path)) > 10
    assert [*tmp_path.rglob("*")] == []


def test_what_the_user_says_of_telemetry_stands(tmp_path: Path) -> None:
    code = "import os, lrpilot; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert [run(code, tmp_path, **said) for said in ({}, {"ORT_DISABLE_TELEMETRY": "0"})] == ["1", "0"]
