"""A variant: how a policy is made, and how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.config import Params
from policy.settings import Caution, Reward, TrainConfig

DIVERGED, WORSE = "diverged", "worse"  # worse: than the best quarter of their task, by the final validation loss
MEAN, DISTILLED = "mean", "distilled"


@dataclass(frozen=True)
class Variant:
    """The differences of a variant from params.yaml and from the default call."""

    train: Mapping[str, Any] = field(default_factory=dict)
    reward: Mapping[str, Any] = field(default_factory=dict)
    action: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0  # of the recorded tasks of each family
    families: int | None = None  # only so many of them
    cadence: Mapping[str, Any] = field(default_factory=dict)  # the tasks are recorded anew in it
    without: str = ""  # runs that are left out: those that followed this schedule, or DIVERGED, or WORSE
    rescaled: float = 0.0  # decades: standard deviation of the shifts of recorded runs, see `rescaling.py`
    caution: Mapping[str, Any] = field(default_factory=dict)  # of the critics' choice
    later: float = 1.0  # what actions after the first one are multiplied by
    agents: str = ""  # MEAN: all training seeds make one policy; DISTILLED: one that imitates their mean
    unprobed: bool = False  # used without a probe
    rule: str | None = None  # of `ruled.RULES`, in the place of a policy

    def settings(self, params: Params) -> tuple[TrainConfig, Reward]:
        """The settings of `params` with the variant's differences."""
        return replace(params.train, **self.train), replace(params.reward, **self.reward)

    def choice(self, params: Params) -> Caution:
        """The caution with which critics choose."""
        return replace(params.export, **self.caution)

    def together(self) -> Variant:
        """The same variant as a single policy made of all training seeds."""
        return replace(self, agents=self.agents or MEAN)
