"""Ray Core: the processes are actors, on the cluster that RAY_ADDRESS names, or on this machine.

They are actors and not tasks for two reasons. An actor that is ready starts an item at once, so a time limit includes
no queueing. And it imports torch only once.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.engines.outcomes import EngineError
from pipeline.engines.slots import LostError, Slot, SlotEngine
from pipeline.engines.worker import ONE_THREAD, attempt, settle

TOP = Path(__file__).parents[2]
CODE = ("pipeline", "policy", "runtime")  # what workers need of it


class Cluster(SlotEngine):
    """Processes of a Ray cluster. If Ray already runs in this process, its cluster is used."""

    def __init__(self, workers: int, device: str, time_limit: float | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise ImportError("engine 'ray' needs Ray: pip install 'lrpilot[ray]'") from error
        if not ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
            ray.init(
                address=address or "local",  # not one that happens to run here
                num_cpus=None if address else workers or None,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=_code() if address else None,
            )
            weakref.finalize(self, ray.shutdown)
        units = int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))
        if device == "cuda" and not units:
            raise ValueError("device: 'cuda', but Ray knows of no GPU; want device: cpu")
        super().__init__(workers or max(units, 1), time_limit)
        self.options = {
            "num_cpus": 1,
            "num_gpus": int(device == "cuda"),
            "max_restarts": 0,  # attempts are counted here
            "runtime_env": {"env_vars": ONE_THREAD},
        }

    def slot(self, number: int) -> Slot:
        return _Actor(self.options)

    def ready(self, slots: Collection[Slot], timeout: float | None) -> Collection[Slot]:
        import ray

        replies = {slot.reply: slot for slot in slots if isinstance(slot, _Actor)}
        done, _ = ray.wait(list(replies), num_returns=1, timeout=timeout)
        return [replies[reply] for reply in done]

    @staticmethod
    def dumps(work: Any) -> bytes:
        from ray import cloudpickle  # functions of __main__ travel by value

        return cloudpickle.dumps(work)  # pyright: ignore[reportPrivateImportUsage]  # Ray documents it, under this name


class _Actor(Slot):
    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def start(self) -> None:
        import ray

        self.actor = ray.remote(**self.options)(_Worker).remote()
        self.reply = self.actor.up.remote()

    def put(self, work: bytes) -> None:
        self.reply = self.actor.run.remote(work)

    def take(self) -> bytes:
        import ray
        from ray.exceptions import RayError, RuntimeEnvSetupError

        try:
            return ray.get(self.reply)
        except RuntimeEnvSetupError as error:
            raise EngineError(f"Ray could not give its workers the code of {TOP}: {error}") from None
        except RayError as error:
            raise LostError("its process or node died") from error

    def end(self) -> None:
        import ray

        if ray.is_initialized():  # else it ended with Ray
            ray.kill(self.actor)  # pyright: ignore[reportArgumentType]  # Ray's stub of `remote` returns another type


class _Worker:
    """The code of an actor."""

    def __init__(self) -> None:
        settle()

    def up(self) -> bytes:
        return b""

    def run(self, work: bytes) -> bytes:
        return attempt(work, Cluster.dumps)


def _code() -> dict[str, Any]:
    """The code as the nodes of a cluster get it: a copy, since they need not share a file system."""
    excluded = [f"/{path.name}" for path in TOP.iterdir() if path.name not in CODE]
    return {"working_dir": str(TOP), "excludes": excluded, "env_vars": {"PYTHONPATH": "runtime"}}
