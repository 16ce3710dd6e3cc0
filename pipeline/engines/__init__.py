"""Where independent pieces of work run: processes of this machine ("local"), or a Ray cluster ("ray")."""

from __future__ import annotations

from pipeline.engines.cluster import Cluster
from pipeline.engines.local import Local
from pipeline.engines.outcomes import Engine, EngineError, Failure, Outcome, progress, results
from pipeline.engines.worker import settle

__all__ = ["ENGINES", "Engine", "EngineError", "Failure", "Outcome", "engine", "progress", "results", "settle"]

ENGINES = {"local": Local, "ray": Cluster}


def engine(name: str, workers: int = 0, *, device: str = "cpu", time_limit: float | None = None) -> Engine:
    """The engine of that name, with `workers` processes of one thread; 0 means one per core, or per GPU on "cuda".

    On "cuda" every process sees only one GPU. `time_limit` is in seconds per item, from when it starts to run. The
    processes start with the first call, stay for the next one, and end with the engine. Raises `ValueError` for an
    unknown name, or "cuda" without a GPU, and `ImportError` for "ray" if Ray is not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"engine: {name!r}, want one of {', '.join(ENGINES)}")
    return ENGINES[name](workers, device, time_limit)
