"""One training of the experiment: everything that decides it, and the name under which its result is cached."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.original.plan.catalogue import MODEL_TITLES, PILOTS, SETS
from experiments.original.plan.config import ModelsConfig, Setting, TrainingConfig
from experiments.original.sources.sets import About
from lrpilot import digests, load_policy
from pipeline import code_hash

LOOP, RUNTIME = "experiments.original.trainings.loop", ("lrpilot",)  # what trains, and what a pilot alone decides by
ROUNDS_ALIKE = ("settings", "loader_workers", "engine", "workers", "device")  # of the parameters: change no number


@dataclass(frozen=True)
class Training:
    """A data set, a model, what sets the learning rate, and a seed."""

    about: About  # of the data set
    model: str
    setting: Setting
    scheduler: str  # of catalogue.SCHEDULERS
    learning_rate: float  # the initial one; the pilots do not look at it
    seed: int
    decisions: int  # per epoch, of the plan's agents
    models: ModelsConfig
    recipe: TrainingConfig
    device: str  # cpu or cuda
    folder: str  # of the data sets
    weights: str = ""  # sha256 of BERT's
    policy: str = ""  # path of the agent's file
    policy_sha256: str = ""
    behaviour: str = ""  # a recording follows this schedule, and acts as the agent `scheduler` does
    exploration: tuple[float, float] = (0.0, 1.0)  # of a recording: epsilon, and its factor per decision

    @property
    def title(self) -> str:
        """A readable title: "MNIST, ResNet-18, cosine from 0.001, seed 0"."""
        what = f"{self.scheduler} after {self.behaviour}" if self.behaviour else self.scheduler
        known = SETS[self.about.name].title, MODEL_TITLES[self.model]
        return f"{known[0]}, {known[1]}, {what} from {self.learning_rate:g}, seed {self.seed}"

    def name(self) -> str:
        """16 hex digits that identify this training, as the current code runs it."""
        piloted = self.scheduler in PILOTS
        content: dict[str, Any] = asdict(self) | {"code": code_hash.digest(LOOP, unused=() if piloted else RUNTIME)}
        if piloted:
            content["pilot"] = load_policy("default").manifest.graph
        content["recipe"] = {k: v for k, v in content["recipe"].items() if k not in ROUNDS_ALIKE}
        for place in ("folder", "policy"):
            del content[place]
        return digests.of_json(content)[:16]


def sha256(path: Path) -> str:
    """Hash of a file, or of all files of a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return digests.of_parts(file.name.encode() + file.read_bytes() for file in files if file.is_file())
