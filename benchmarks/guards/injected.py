"""Faults in real trainings, each with and without the guards.

    python -m benchmarks.guards.injected    # 1 minute; benchmarks/results/guards.json and a table of docs/guards.md

`lrpilot.torch.PilotLR` drives the trainings with the shipped policy, or with a faulty one made of it. The result of a
training is its final loss on clean validation data. A training that stopped, or ended without a finite loss, counts as
failed.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.guards.faults import FAULTS, STEPS, Fault, FaultyBundle
from lrpilot.torch import PilotLR
from pipeline.reporting import markdown

RESULTS, PAGE = Path("benchmarks/results/guards.json"), Path("docs/guards.md")
SEEDS = 5


def train(fault: Fault, seed: int, guards: bool) -> tuple[float | None, dict[str, int]]:
    """One training: its final validation loss, None where there is none, and the guards' events."""
    torch.manual_seed(seed)
    world, rng = fault.world, np.random.default_rng(seed)
    x, y = world.data(rng, 3000)
    train_x, train_y, val_x, val_y = x[:2000], y[:2000], x[2000:], y[2000:]
    model = world.model()
    optimizer = world.make_optimizer(model)
    scheduler = PilotLR(optimizer, STEPS, FaultyBundle(fault.answer), model=model, guards=guards)
    try:
        for step in range(STEPS):
            rows = torch.from_numpy(rng.integers(len(train_x), size=world.batch))
            inputs, targets = fault.corrupt(step, (train_x[rows], train_y[rows]))
            loss = world.loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            if fault.spoils(step):
                gradients[0].view(-1)[0] = math.nan
            scheduler.observe(grad_norm=torch.nn.utils.get_total_norm(gradients))
            for gradient in gradients:
                gradient.nan_to_num_(0.0, 0.0, 0.0)
            optimizer.step()
            scheduler.step(loss if fault.reports(step) else None)
    except RuntimeError:  # the policy's own, that nothing guards
        return None, {}
    with torch.no_grad():
        final = float(world.loss(model(val_x), val_y))
    events = Counter(d.event for d in scheduler.history if d.event is not None)
    return (final if np.isfinite(final) else None), dict(sorted(events.items()))


def run(fault: Fault) -> dict[str, Any]:
    """All trainings of one fault, the same seeds with and without guards."""
    row: dict[str, Any] = {"name": fault.name, "what": fault.what}
    total: Counter[str] = Counter()
    for column, guards in (("with", True), ("without", False)):
        outcomes = [train(fault, seed, guards) for seed in range(SEEDS)]
        row[column] = [None if loss is None else round(loss, 5) for loss, _ in outcomes]
        for _, events in outcomes:
            total.update(events)
    return row | {"events": dict(sorted(total.items()))}


def lg_ratio(row: dict[str, Any]) -> float | None:
    """Mean over seeds of lg(loss without guards / with guards), where both have a loss; positive if guards help."""
    pairs = [(a, b) for a, b in zip(row["with"], row["without"], strict=True) if a is not None and b is not None]
    return float(np.mean([np.log10(b / a) for a, b in pairs])) if pairs else None


def _losses(values: list[float | None]) -> str:
    """Median (lowest to highest) of the trainings that have a loss, and the number of those that have none."""
    known = [v for v in values if v is not None]
    lost = len(values) - len(known)
    if not known:
        return f"none ({lost} failed)"
    return f"{np.median(known):.3g} ({min(known):.3g} to {max(known):.3g})" + (f", {lost} failed" if lost else "")


def _events(events: dict[str, int]) -> str:
    return ", ".join(f"`{name}` {n}" for name, n in events.items()) or "–"


def faults_table(rows: list[dict[str, Any]]) -> str:
    """What each fault does, in Markdown."""
    head = ("fault", "what goes wrong", "with guards", "without", "decades gained", "events")
    lines = []
    for row in rows:
        ratio = lg_ratio(row)
        gained = "equal" if row["with"] == row["without"] else "all" if ratio is None else f"{ratio:+.2f}"
        losses = _losses(row["with"]), _losses(row["without"])
        lines.append((row["name"], row["what"], *losses, gained, _events(row["events"])))
    return markdown.table(head, lines, "l" * len(head))


def render(page: str, results: dict[str, Any]) -> str:
    """The page with the table between its marks. All other text stays."""
    return markdown.fill(page, "faults", faults_table(results["faults"]))


def main() -> None:
    torch.set_num_threads(1)
    logging.getLogger("lrpilot").setLevel(logging.CRITICAL)  # every event is a warning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = {"faults": [run(fault) for fault in FAULTS]}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(render(PAGE.read_text(), results))


if __name__ == "__main__":
    main()
