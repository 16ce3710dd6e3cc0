"""The model card: what a promoted policy was made from, how good it is, and its limits."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lrpilot.policy_file.bundle import Manifest
from pipeline.config import Params
from pipeline.reporting import markdown, result_keys, scores

TITLES = {
    "heldout": "Held-out families",
    "selection": "Families of the selection",
    "train": "Families of the training",
}
LIMITS = """\
- Judged on the small trainings of this repository's workload families; nothing is claimed for models, lengths
  and optimizers outside them.
- Intervals cover the spread of seeds over this benchmark's tasks, not that of other tasks.
- A learning rate is all that it sets: weight decay, batch size, momentum and steps stay the user's.
- The worst task in the tables is the one to look at before relying on the mean."""


def render(manifest: Manifest, params: Params, collected: Mapping[str, Any], sha256: str, candidate: str) -> str:
    """Markdown. `collected` is metrics/collect.json, `candidate` the sha256 without the evaluation."""
    training = manifest.training
    counts = ("runs", "decisions", "schedules", "divergent_share")
    data = {
        **{key: collected[key] for key in counts if key in collected},
        "families": ", ".join(sorted({*params.collect.families, *params.collect.extra})),
        "optimizers": ", ".join(manifest.optimizers),
    }
    hashes = {"sha256 of policy.onnx": sha256, "sha256 as registered": candidate}
    hashes["benchmark"] = manifest.evaluation[result_keys.BENCHMARK]
    sections = [
        "# Model card: the default learning-rate policy",
        "A policy network that sets the learning rate of a training from what the training reports. It was\n"
        "trained offline, on recorded trainings, and is run by `lrpilot` on CPU.",
        "## Data\n\n" + _list(data),
        "## Training\n\n" + _list({**asdict(params.train), **training}),
        "## Hashes\n\n" + _list(hashes),
        "## Evaluation\n\nNormalised regret of the final loss: 0 is the grid-tuned oracle, 1 is no progress\n"
        "or a divergence; lower is better. `mean` is over regimes of training, by their shares, and the last\n"
        "columns are the means of each. `low` and `high` bound the mean's 95 % bootstrap interval, `worst` is the\n"
        "worst task's mean.",
        *(_table(split, groups) for split, groups in result_keys.groups(manifest.evaluation).items()),
        "## Limits\n\n" + LIMITS,
        f"## Licence\n\n{manifest.licence}",
    ]
    return "\n\n".join(sections) + "\n"


def _list(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {_plain(value)}" for key, value in values.items())


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(split: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    ordered = sorted(groups.items(), key=lambda item: item[0] != result_keys.POLICY)  # the policy, then as they come
    titles, mine = {f"{name}_mean": title for name, title in scores.REGIMES.items()}, groups[result_keys.POLICY]
    regimes = {key: title for key, title in titles.items() if key in mine}
    shown = [*result_keys.STATISTICS, *regimes]
    rows = [[name, *(_number(group.get(key)) for key in shown)] for name, group in ordered]
    table = markdown.table(["method", *result_keys.STATISTICS, *regimes.values()], rows)
    return "\n\n".join([f"### {TITLES[split]}", table, "\n".join(_verdicts(groups))])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _verdicts(groups: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """In words, which methods do as well as the policy or better. A table alone would hide this."""
    mine = groups[result_keys.POLICY]["mean"]
    for kind, meaning in (
        ("baseline", "these schedules do as well from a blindly chosen initial learning rate"),
        ("textbook", "these schedules do as well from the textbook's rate"),
        ("rival", "these methods without tuning do as well"),
        ("control", "these controls do as well, so what the policy observes did not help"),
    ):
        others = {name: group["mean"] for name, group in groups.items() if result_keys.kind_of(name) == kind}
        if not others:
            continue
        ahead = sorted(name for name, mean in others.items() if mean <= mine)
        yield f"- {kind}s: " + (
            f"{meaning}: {', '.join(ahead)}" if ahead else f"the policy is ahead of all {len(others)}"
        )
