"""params.yaml is read strictly: every fault names section.key, the value and what is allowed."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import Params, load, overlay, read
from pipeline.schema import ConfigError, parse
from repository import TOP

BASE = read(TOP / "params.yaml")

FAULTS = [  # section, key, value, what the message says
    ("train", "steps", "many", "train.steps is 'many', want an integer at least 1"),
    ("train", "steps", 0, "train.steps is 0, want an integer at least 1"),
    ("train", "steps", 10.0, "train.steps is 10.0, want an integer at least 1"),
    ("train", "steps", True, "train.steps is True, want an integer at least 1"),
    ("train", "steps", None, "train.steps is None, want an integer at least 1"),
    ("train", "gamma", False, "train.gamma is False, want a finite number in (0, 1]"),
    ("train", "gamma", 0, "train.gamma is 0, want a finite number in (0, 1]"),
    ("train", "gamma", 1.5, "train.gamma is 1.5, want a finite number in (0, 1]"),
    ("train", "alpha", float("inf"), "train.alpha is inf, want a finite number at least 0"),
    ("train", "learning_rate", float("nan"), "train.learning_rate is nan, want a finite number above 0"),
    ("train", "learning_rate", "1e-3", "'1e-3', want a finite number above 0 (YAML wants a point and a sign"),
    (
        "train",
        "algorithm",
        "ppo",
        "train.algorithm is 'ppo', want a text that is one of bc, iql, cql, td3bc, awac, dqn",
    ),
    ("train", "hidden", 64, "train.hidden is 64, want a list, each an integer at least 1"),
    ("train", "dropout", 1.0, "train.dropout is 1.0, want a finite number in [0, 0.9]"),
    ("train", "learns_from", "twins", "train.learns_from is 'twins', want a text that is one of departures, runs"),
    ("export", "margin", 0.0, "export.margin is 0.0, want a finite number above 0"),
    ("export", "later", -0.5, "export.later is -0.5, want a finite number at least 0"),
    (
        "collect",
        "branches",
        {"share": 0.5, "levels": 0, "moves": 0, "twins": 9, "dear": 7, "base": "hold", "rolled_in": 0.0},
        "'base': 'hold', 'rolled_in': 0.0}, want at least one group, or share 0",
    ),
    (
        "collect",
        "branches",
        {"share": 0.5, "levels": 1, "moves": 0, "twins": 1, "dear": 7, "base": "hold", "rolled_in": 0.0},
        "collect.branches.twins is 1, want an integer at least 2",
    ),
    (
        "collect",
        "branches",
        {"share": 0.5, "levels": 1, "moves": 0, "twins": 9, "dear": 7, "base": "stay", "rolled_in": 0.0},
        "collect.branches.base is 'stay', want a text that is one of hold, policy",
    ),
    (
        "collect",
        "branches",
        {"share": 0.5, "levels": 1, "moves": 0, "twins": 9, "dear": 7, "base": "policy", "rolled_in": 0.5},
        "collect.branches.rolled_in is 0.5, want 0 where the base is a policy throughout",
    ),
    ("train", "hidden", [64, 0], "train.hidden[1] is 0, want an integer at least 1"),
    (
        "train",
        "seeds",
        [],
        "train.seeds is [], want a list, each an integer at least 0 (not empty, no repetition)",
    ),
    (
        "train",
        "seeds",
        [3, 3],
        "train.seeds is [3, 3], want a list, each an integer at least 0 (not empty, no rep",
    ),
    (
        "train",
        "momentum",
        0.9,
        "train.momentum is an unknown key (value 0.9), want one of steps, batch_size, learning",
    ),
    ("collect", "epsilon", -0.1, "collect.epsilon is -0.1, want a finite number in [0, 1]"),
    (
        "collect",
        "families",
        ["digits"],
        "collect.families is ['digits'], want a mapping of names, each to a finite",
    ),
    ("collect", "families", {"tabular": 0}, "collect.families.tabular is 0, want a finite number above 0"),
    (
        "collect",
        "families",
        {"digits": 1.0},
        "collect.families is 'digits', want a text that is one of tabular, spirals",
    ),
    ("collect", "families", {"mnist_cnn": 1.0}, "collect.families is 'mnist_cnn', want a text that is one of tabular"),
    ("collect", "schedules", {"cosin": 1.0}, "collect.schedules is 'cosin', want a text that is one of constant, step"),
    ("collect", "behaviour_policies", [], "collect.behaviour_policies is [], want paths of policies, since schedules"),
    ("evaluate", "families", ["mnist_cnn", "mnst"], "evaluate.families[1] is 'mnst', want a text that is one of tabul"),
    ("collect", "families", {7: 1.0}, "collect.families is 7, want a text"),
    ("collect", "families", {}, "collect.families is {}, want a mapping"),
    ("collect", "device", "gpu", "collect.device is 'gpu', want a text that is one of cpu, cuda"),
    ("reward", "floor", 0.5, "reward.floor is 0.5, want a finite number at most 0"),
    (
        "evaluate",
        "families",
        ["mnist_cnn", "mnist_cnn"],
        "evaluate.families is ['mnist_cnn', 'mnist_cnn'], want a list, each a text that is one of",
    ),
    ("register", "model", "", "register.model is '', want a text (not empty"),
    ("regimes", "odd", 0.25, "'odd': 0.25}, want shares that add up to 1"),
    ("regimes", "odd", -0.15, "regimes.odd is -0.15, want a finite number in [0, 1]"),
]


def with_value(section: str, key: str, value: object) -> dict[str, Any]:
    return {**BASE, section: {**BASE[section], key: value}}


@pytest.mark.parametrize(("section", "key", "value", "message"), FAULTS)
def test_faults_are_named(section: str, key: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        parse(with_value(section, key, value), Params)
    assert message in str(fault.value)


@pytest.mark.parametrize("section", BASE)
def test_every_key_is_required(section: str) -> None:
    for key in BASE[section]:
        content = {**BASE, section: {k: v for k, v in BASE[section].items() if k != key}}
        with pytest.raises(ConfigError, match=f"{section}.{key} is missing, want "):
            parse(content, Params)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "file is None, want a mapping of names to values"),
        ({**BASE, "colect": {}}, "colect is an unknown key (value {}), want one of regimes, collect"),
        ({k: v for k, v in BASE.items() if k != "reward"}, "reward is missing, want a mapping of names to values"),
        ({**BASE, "reward": 3}, "reward is 3, want a mapping of names to values"),
    ],
)
def test_sections_are_checked_too(content: object, message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        parse(content, Params)
    assert message in str(fault.value)


def test_load_reads_the_file_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(with_value("train", "learning_rate", 1)))
    params = load(tmp_path)
    assert params.train.learning_rate == 1.0
    assert type(params.train.learning_rate) is float
    assert params.train.hidden == tuple(BASE["train"]["hidden"])
    with pytest.raises(FrozenInstanceError):
        params.train.steps = 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "params.yaml: no such file"),
        (
            b"train:\n  steps: [1, 2\nregister: {}\n",
            "params.yaml: line 3, column 9: expected ',' or ']', but got ':', want YAML",
        ),
        (b"train: {steps: 1}\n\ttabs: 1\n", "params.yaml: line 2, column 1: found character '\\t'"),
        (b"train: \xff\xfe\n", "params.yaml: unacceptable character #x00ff"),
        (b"", "params.yaml: parameter file is None, want a mapping of names to values"),
        (b"train: 3\n", "params.yaml: parameter regimes is missing, want a mapping of names to values"),
    ],
)
def test_the_file_and_the_line_are_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as fault:
        load(tmp_path)
    assert str(fault.value).startswith(f"{tmp_path}/{message}") and "\n" not in str(fault.value)


def test_overlay_replaces_whole_values_and_nothing_else() -> None:
    merged = overlay(BASE, {"collect": {"families": {"wine": 2.0}}, "train": {"steps": 7}})
    assert merged["collect"] == {**BASE["collect"], "families": {"wine": 2.0}}
    assert merged["train"] == {**BASE["train"], "steps": 7}
    assert BASE["train"]["steps"] != 7


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"trian": {"steps": 7}}, "trian is an unknown key"),
        ({"train": {"setps": 7}}, "train.setps is an unknown key (value 7), want one of steps, batch_size"),
        ({"train": 7}, "train is 7, want a mapping"),
    ],
)
def test_what_the_base_lacks_is_refused_after_an_overlay(over: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as fault:
        parse(overlay(BASE, over), Params)
    assert message in str(fault.value)
