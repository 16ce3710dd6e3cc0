"""The keys of the evaluation: what is written is read again, and nothing else is a key."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reporting import result_keys, scores
from pipeline.reporting.result_keys import ResultKey
from pipeline.workloads.base import REGIMES
from repository import TOP

OF_SPLIT = (
    "configured",
    "tasks",
    "share",
    "left_out",
    "seeds",
    "worst_task",
)  # what is said of a split, not of a method
names = st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True)
factories = st.builds("rival.{}:{}".format, st.lists(names, min_size=1, max_size=3).map(".".join), names)
keys = st.builds(
    ResultKey, st.sampled_from(result_keys.SPLITS), st.sampled_from(sorted(scores.NAMES)) | factories, names
)


@given(keys)
def test_what_is_encoded_is_decoded(key: ResultKey) -> None:
    assert ResultKey.decode(key.encode()) == key


@given(st.text(max_size=30) | st.lists(names | st.sampled_from(result_keys.SPLITS), max_size=5).map(".".join))
def test_a_text_is_its_own_key_or_none(text: str) -> None:
    key = ResultKey.decode(text)
    assert key is None or key.encode() == text


@pytest.mark.parametrize(
    "text",
    [
        "benchmark", "heldout.tasks", "calibrated.adam", "textbook.cosine.mean", "constant.policy.steps", "pilot.time",
        "heldout.policy.", "heldout..mean", "heldout.policies.mean", "heldout.baseline.mean", "loop.pilot.mean",
        "heldout.loop.pilot.mean", "selection.policy.mean\n", "heldout.worst_task", "heldout.left_out.mnist1d-12",
        "heldout.tasks.odd", "heldout.share.odd", "heldout.floor.searched.mean",
    ],
)  # fmt: skip
def test_other_texts_are_no_keys(text: str) -> None:
    assert ResultKey.decode(text) is None


def test_regimes_are_those_of_the_workloads() -> None:
    assert tuple(scores.REGIMES) == REGIMES


def test_a_key_of_no_split_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="want a split of heldout, selection, train, heldout_large, "):
        ResultKey("validation", "policy", "mean")


@pytest.mark.parametrize("file", ["metrics/evaluate.json", "benchmarks/results/lr_benchmark.json"])
def test_every_figure_of_a_split_has_a_key(file: str) -> None:
    figures = json.loads((TOP / file).read_text(encoding="utf-8"))
    of_splits = {text: value for text, value in figures.items() if text.partition(".")[0] in result_keys.SPLITS}
    again = {text: value for text, value in of_splits.items() if text.split(".")[1] in OF_SPLIT}
    for split, groups in result_keys.groups(figures).items():
        for group, values in groups.items():
            again |= result_keys.encode(split, group, values)
    assert again == of_splits


def test_the_summary_has_every_group_and_the_benchmark() -> None:
    groups = ("policy", "policy_val", "policy_steps", "baseline.cosine", "rival.mine:factory", "textbook.default")
    figures = {"benchmark": "b", "selection.tasks": 3, "calibrated.adam": "cosine 0.01"}
    for group in groups:
        of_group = {"mean": 0.5, "worst": 1.0, "policy_wins": 0.5, "odd_mean": 0.4, "odd_low": 0.3}
        figures |= result_keys.encode("selection", group, of_group)
    summary = result_keys.summary(figures)
    assert summary.pop("benchmark") == "b"
    assert result_keys.groups(summary) == {
        "selection": {group: {"mean": 0.5, "worst": 1.0, "odd_mean": 0.4} for group in groups}
    }
