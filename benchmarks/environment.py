"""What a benchmark ran on: versions, processor, threads."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

THREADS = 1  # of torch, in every benchmark that times anything


def environment() -> dict[str, Any]:
    """Facts about the machine that timings depend on, by their keys in the results."""
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "threads": THREADS,
    }


def processor() -> str:
    """The name of the processor."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
