"""The register stage: the policy becomes a version in MLflow's model registry.

A version is identified by the sha256 of its file, so registering a policy twice changes nothing. The policy of this
repro becomes @challenger. It becomes @champion too if there is none, or if its regret on the families of the selection
split is lower than the champion's on an equal benchmark.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from lrpilot import digests
from lrpilot.policy_file.bundle import Bundle
from pipeline import config, tracking
from pipeline.paths import Paths
from pipeline.reporting import result_keys

CHALLENGER, CHAMPION = "challenger", "champion"
VERDICT = "verdict"  # tag of a version that became champion: why


def main() -> None:
    paths, _ = config.arguments(__doc__)
    result = register(paths)
    print(f"version {result['version']}: {result['reason']}")


def register(paths: Paths) -> dict[str, Any]:
    """Register ROOT/artifacts/policy.onnx; returns the content of metrics/register.json.

    Raises BundleError for a policy that does not load, ValueError if its evaluation is missing.
    """
    params = config.load(paths.root).register
    bundle, evaluation = Bundle(paths.policy), result_keys.read(paths)
    sha256 = digests.of_file(paths.policy)
    with tracking.stage(paths, "register", asdict(params)) as log:
        store = log.store
        tags = _origin(bundle.manifest.training) | _worth(evaluation)
        version = store.version_of(params.model, sha256)
        if version is None:
            version = store.add_version(params.model, paths.policy, log.run_id, tags)
        store.tag_version(version, tags)
        store.describe_version(version, describe(evaluation))
        store.point(CHALLENGER, version)
        champion = store.aliased(params.model, CHAMPION)
        if champion is not None and champion.version == version.version:
            wins, reason = True, champion.tags.get(VERDICT, "is the champion")
        else:
            wins, reason = judge(evaluation, None if champion is None else (champion.version, champion.tags))
            if wins:
                store.point(CHAMPION, version)
                store.tag_version(version, {VERDICT: reason})
        if champion is None or wins:
            champion = version
        result = {
            "version": int(version.version),
            "champion_version": int(champion.version),
            "is_champion": wins,
            "reason": reason,
            "sha256": sha256,
        }
        log.write(result, paths.register_metrics)
        log.tags({"lrpilot.policy": f"{params.model}/{version.version}"})
        log.describe(f"Registered as {params.model}, version {version.version}: {reason}.")
    return result


def describe(evaluation: Mapping[str, Any]) -> str:
    """The description of a version, in Markdown: its figures on every split."""
    return "\n".join(
        "- {split} families: mean regret {mean:.3f} ({low:.3f} to {high:.3f}, 95 %), worst task {worst:.3f}".format(
            split=split, **by_group[result_keys.POLICY]
        )
        for split, by_group in result_keys.groups(evaluation).items()
    )


def judge(evaluation: Mapping[str, Any], champion: tuple[str, Mapping[str, str]] | None) -> tuple[bool, str]:
    """Whether a candidate replaces the champion (version and tags), and why. A tie keeps the champion."""
    if champion is None:
        return True, "there was no champion"
    number, tags = champion
    mine, theirs = evaluation[result_keys.BENCHMARK], tags.get(result_keys.BENCHMARK)
    if mine != theirs:
        return False, (
            f"judged on benchmark {mine}, the champion (version {number}) on {theirs}, so their regrets do "
            f"not compare; to replace it, set the alias {CHAMPION!r} by hand"
        )
    new, old = evaluation[result_keys.SCORE], float(tags[result_keys.SCORE])
    relation = "is below" if new < old else "is not below"
    return (
        new < old,
        f"mean regret {new:.6g} {relation} the {old:.6g} of the champion then (version {number})",
    )


def _worth(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The tags with a version's figures: the policy's own on every split, and the benchmark."""
    own = {}
    for text, value in result_keys.summary(evaluation).items():
        key = result_keys.ResultKey.decode(text)
        if key is None or key.kind == result_keys.POLICY:
            own[text] = value
    return own


def _origin(training: Mapping[str, Any]) -> dict[str, Any]:
    """The tags with a version's origin, as far as its manifest states it."""
    return {key: value for key, value in training.items() if isinstance(value, str | int | float)}


if __name__ == "__main__":
    main()
