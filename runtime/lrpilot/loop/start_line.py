"""What a scheduler says of itself before the training: the start line, and its `repr`. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence

from lrpilot.loop.arguments import OPTIMIZER
from lrpilot.loop.plan import Plan
from lrpilot.text import counted

UNKNOWN = "epoch length and number of examples are not known, and the policy decides better if they are"


def sentences(
    plan: Plan,
    total_steps: int,
    probe_steps: int,
    probed: bool,
    rates: Sequence[float],
    guess: float | str | None,
    model: bool,
) -> list[str]:
    """Sentences, most important first.

    total_steps: after what extended the training; probe_steps: of the probe, 0 where there is none; probed: whether it
    is over; rates (groups,): the optimizer's own; guess: as `PilotLR` takes it; model: whether the scheduler knows the
    model.
    """
    return [
        f"{counted(f'{total_steps:,}', 'optimizer step')}; {_data(plan, total_steps)}",
        *_probe(probe_steps, probed, model),
        _rates(rates, guess),
    ]


def _data(plan: Plan, total_steps: int) -> str:
    """The data that are taken for granted."""
    has_loader = plan.loader is not None  # a loader that knows neither its length nor its data was given, too
    if plan.steps_per_epoch is None and plan.examples is None:
        ask = "steps_per_epoch= and examples=, which data= does not tell" if has_loader else "data=loader"
        return f"{UNKNOWN}: pass {ask}"
    examples = "an unknown number of examples" if plan.examples is None else counted(f"{plan.examples:,}", "example")
    if plan.steps_per_epoch is None:
        ask = "steps_per_epoch=, which data= does not tell" if has_loader else "data=loader or steps_per_epoch="
        return f"{examples}; epoch length is not known: pass {ask}"
    accumulated = "" if plan.accumulate in (None, 1) else f", {plan.accumulate} batches per step"
    passes = counted(f"{total_steps / plan.steps_per_epoch:.4g}", "pass", "passes")
    return f"{passes} over {examples}, {counted(f'{plan.steps_per_epoch:.6g}', 'step')} each{accumulated}"


def _probe(steps: int, probed: bool, model: bool) -> list[str]:
    if not steps:
        return ["no probe"]
    if probed:
        return [f"the probe took up to {steps} steps, and is over"]
    buffers = (
        "batch norm's statistics among them"
        if model
        else "but model= is not given, so that batch norm's statistics keep what the probe did to them"
    )
    return [
        f"the first {steps} steps at most are a probe: its rates climb until the loss rises, so a logged loss bumps",
        f"then weights and optimizer state are put back, {buffers}",
    ]


def _rates(rates: Sequence[float], guess: float | str | None) -> str:
    own = "the optimizer's own learning rate" if len(rates) == 1 else "the groups' own learning rates"
    listed = ", ".join(f"{rate:.3g}" for rate in rates)
    if guess == OPTIMIZER:
        return f"{own}, {listed}, {'is' if len(rates) == 1 else 'are'} a first guess beside what the policy names"
    guessed = "" if guess is None else f"{guess:.3g} is a first guess beside what the policy names; "
    if len(rates) == 1:
        return f"{guessed}{own}, {listed}, is not used"
    return f"{guessed}of {own}, {listed}, only the ratios are used"
