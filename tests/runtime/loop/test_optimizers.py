"""Which optimizers a pilot drives, which ones it warns of, and which ones it refuses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import dadaptation
import dog
import lion_pytorch
import mechanic_pytorch
import momo
import prodigyopt
import pytest
import schedulefree
import torch
import transformers
from torch import nn

import lrpilot
from lrpilot.policy_file.bundle import Bundle
from lrpilot.torch import PilotLR

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def named(name: str) -> Make:
    """An optimizer of a package that is not installed here: only its name counts."""
    return lambda params: type(name, (torch.optim.RMSprop,), {})(params)


REFUSED: dict[str, tuple[Make, str]] = {
    "LBFGS": (torch.optim.LBFGS, "LBFGS has a line search"),
    "Rprop": (torch.optim.Rprop, "Rprop gives each weight a step size of its own"),
    "Prodigy": (prodigyopt.Prodigy, "Prodigy estimates the step size itself"),
    "DAdaptAdam": (dadaptation.DAdaptAdam, "DAdaptAdam estimates the step size itself"),
    "DAdaptSGD": (dadaptation.DAdaptSGD, "DAdaptSGD estimates the step size itself"),
    "AdamWScheduleFree": (schedulefree.AdamWScheduleFree, "AdamWScheduleFree averages its weights"),
    "SGDScheduleFree": (schedulefree.SGDScheduleFree, "SGDScheduleFree averages its weights"),
    "Adafactor": (transformers.Adafactor, "Adafactor sets its own rate, since relative_step=True"),
    "Mechanic": (mechanic_pytorch.mechanize(torch.optim.AdamW), "MechanizedAdamW estimates the step size itself"),
    "DoG": (dog.DoG, "DoG estimates the step size itself"),
    "LDoG": (dog.LDoG, "LDoG estimates the step size itself"),
    "Momo": (momo.Momo, "Momo works out each step size from the loss"),
    "MomoAdam": (momo.MomoAdam, "MomoAdam works out each step size from the loss"),
    "subclass": (type("Mine", (prodigyopt.Prodigy,), {}), "Mine estimates the step size itself"),
}
WARNED: dict[str, Make] = {
    **{name: getattr(torch.optim, name) for name in ("RMSprop", "NAdam", "RAdam", "Adagrad", "Adadelta", "Adamax")},
    "Lion": lion_pytorch.Lion,
    "Adafactor with a rate": lambda params: transformers.Adafactor(
        params, lr=1e-3, relative_step=False, scale_parameter=False
    ),
}


class Variant(torch.optim.Optimizer):
    """An optimizer of a package that is not installed here, with its own options of a group."""

    def __init__(self, params: list[nn.Parameter], **options: Any) -> None:
        super().__init__(params, {"lr": 0.1, **options})

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(p.grad, alpha=-group["lr"])


def variant(name: str, **options: Any) -> Make:
    return lambda params: type(name, (Variant,), {})(params, **options)


MOMENTUM = {"momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
KINDS: dict[str, tuple[Make, str, bool]] = {  # the kind, and whether it is warned of
    "ASGD of torch": (torch.optim.ASGD, "sgd", False),
    "SGDW of timm": (variant("SGDW", **MOMENTUM), "sgd", False),
    "SGDP of torch_optimizer": (variant("SGDP", **MOMENTUM, delta=0.1, wd_ratio=0.1), "sgd", False),
    "FusedSGD of apex": (variant("FusedSGD", **MOMENTUM), "sgd", False),
    "SGD8bit of bitsandbytes": (variant("SGD8bit", betas=(0.9, 0.0), eps=0.0), "sgd", False),
    "SGDSaI of pytorch_optimizer": (variant("SGDSaI", momentum=0.9), "sgd", False),
    "a class of one's own": (lambda params: type("Mine", (type("MySGD", (Variant,), {}),), {})(
        params, momentum=0.0), "sgd", False),
    "SignSGD, whose steps are like Adam's": (variant("SignSGD", momentum=0.9), "adam", True),
    "VSGD, which divides by a second moment": (variant("VSGD", tau1=0.81, eps=1e-8), "adam", True),
    "AdamSGD": (variant("AdamSGD", betas=(0.9, 0.999)), "adam", True),
    "Lars": (variant("Lars", momentum=0.9), "adam", True),
    "RMSprop, with momentum": (torch.optim.RMSprop, "adam", True),
}  # fmt: skip
QUIET: dict[str, Make] = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "subclass": type("Mine", (torch.optim.AdamW,), {}),
    **{name: named(name) for name in ("AdamW8bit", "FusedAdam", "PagedAdamW8bit", "DeepSpeedCPUAdam")},
}


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


def driven(optimizer: torch.optim.Optimizer, policy: Bundle, **options: Any) -> list[str]:
    """The warnings of a short training."""
    (p,) = optimizer.param_groups[0]["params"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler = PilotLR(optimizer, 20, policy, **options)
        for _ in range(20):
            loss = p.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(lambda loss=loss: loss)
            scheduler.step(loss)
    return [str(w.message) for w in caught if str(w.message).startswith("PilotLR")]


@pytest.mark.parametrize("name", REFUSED)
def test_an_optimizer_that_sets_its_own_step_is_refused(name: str, policy: Bundle) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"optimizer: {message}.*pass kind='adam'"):
        PilotLR(make(parameters()), 20, policy)
    with pytest.raises(ValueError, match=f"optimizer: {message}.*; use SGD, Adam or AdamW$"):
        lrpilot.suggest(make(parameters()), [0], lambda batch: batch)


@pytest.mark.parametrize("name", ["Rprop", "DAdaptAdam", "LBFGS"])
def test_who_names_a_kind_has_it_driven_all_the_same(name: str, policy: Bundle) -> None:
    assert driven(REFUSED[name][0](parameters()), policy, kind="adam") == []


@pytest.mark.parametrize("name", WARNED)
def test_a_kind_that_no_policy_knows_is_warned_of_once(name: str, policy: Bundle) -> None:
    optimizer = WARNED[name](parameters())
    message = f"PilotLR: {type(optimizer).__name__} is taken for Adam; policies know SGD, Adam and AdamW; pass kind="
    assert driven(optimizer, policy) == [message]
    assert driven(WARNED[name](parameters()), policy, kind="sgd") == []


@pytest.mark.parametrize("name", QUIET)
def test_a_kind_that_policies_know_is_taken_quietly(name: str, policy: Bundle) -> None:
    assert driven(QUIET[name](parameters()), policy) == []


def test_a_kind_counts(policy: Bundle) -> None:
    kinds = [PilotLR(torch.optim.SGD(parameters()), 20, policy, kind=kind) for kind in (None, "sgd", "adamw")]
    assert [scheduler.pilot.optimizer for scheduler in kinds] == ["sgd", "sgd", "adamw"]
    with pytest.raises(ValueError, match="kind: 'muon', want one of 'sgd', 'adam', 'adamw'"):
        PilotLR(torch.optim.SGD(parameters()), 20, policy, kind="muon")


@pytest.mark.parametrize("case", KINDS)
def test_variants_of_sgd_are_told_by_name_and_momentum(case: str, policy: Bundle) -> None:
    make, kind, warned = KINDS[case]
    optimizer = make(parameters())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scheduler = PilotLR(optimizer, 200, policy)
    assert scheduler.pilot.optimizer == kind
    assert ["is taken for Adam" in str(w.message) for w in caught] == [True] * warned
    usual = (torch.optim.SGD if kind == "sgd" else torch.optim.Adam)(parameters())
    assert scheduler.get_last_lr() == PilotLR(usual, 200, policy).get_last_lr()  # where the probe begins
