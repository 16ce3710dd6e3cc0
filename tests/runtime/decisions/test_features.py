"""The table of features: every row worked out by hand, and what is read off it."""

import numpy as np
import pytest

from lrpilot import load_policy
from lrpilot.decisions.features import BY_NAME, CLIP, FEATURES, GROUPS, LEAST, NAMES, PROBE_NAMES, VERSION
from repository import TOP

# In the order of an observation: group, a quantity, the feature that it becomes.
ROWS = {
    "progress": ("clock", 0.75, 0.5),
    "log_progress": ("clock", 0.01, -1 / 3),
    "first": ("clock", 1.0, 1.0),
    "level": ("level", -3.0, -1.5),
    "level_to_anchor": ("level", -1.5, -1.5),
    "level_to_highest": ("level", -1.5, -1.5),
    "last_move": ("level", -1.5, -3.0),
    "interval": ("clock", 0.1, 1.0),
    "log_steps": ("clock", 100.0, -1.0),
    "is_sgd": ("clock", -1.0, -1.0),
    "has_epochs": ("epochs", 1.0, 1.0),
    "log_epochs": ("epochs", 1000.0, 2.0),
    "has_examples": ("epochs", 1.0, 1.0),
    "log_examples": ("epochs", 100.0, -1.0),
    "loss_total": ("loss", 0.1, -2.0),
    "loss_last": ("loss", 0.1, -10.0),
    "loss_slope": ("loss", 0.1, -10.0),
    "loss_slope_4": ("loss", 0.1, -5.0),
    "loss_to_best": ("loss", 10.0, 5.0),
    "since_best": ("loss", 4.0, 0.4),
    "loss_noise": ("loss", 0.3, 0.6),
    "grad_norm": ("sketch", 0.01, -2.0),
    "grad_cos": ("sketch", -0.5, -1.5),
    "update_ratio": ("sketch", 1e-4, -0.5),
    "update_cos": ("sketch", -0.5, -1.0),
    "weight_norm": ("sketch", 10.0, 3.0),
    "has_val": ("validation", 1.0, 1.0),
    "val_total": ("validation", 0.1, -2.0),
    "val_slope": ("validation", 0.1, -20.0),
    "val_slope_4": ("validation", 0.1, -8.0),
    "val_to_best": ("validation", 10.0, 5.0),
    "val_gap": ("validation", 100.0, 4.0),
    "probed": ("probe", 1.0, 1.0),
    "probe_blowup": ("probe", 3.0, 1.5),
    "probe_blown": ("probe", 1.0, 1.0),
    "probe_lowest": ("probe", -1.5, -1.5),
    "probe_steepest": ("probe", -1.5, -1.5),
    "probe_noise": ("probe", 0.25, 0.5),
    **{f"probe_loss_{d}": ("probe", 0.1, -3.0) for d in ("-3", "-2.5", "-2", "-1.5", "-1", "-0.5", "0")},
    **{f"probe_grad_{d}": ("probe", 0.1, -1.0) for d in ("-2", "-1", "-0.5", "0")},
    "has_size": ("size", 1.0, 1.0),
    "log_fan_in": ("size", 1000.0, 1.0),
    "log_matrices": ("size", 1.0, -1.0),
    "log_weights": ("size", 1e6, 1.0),
    "log_scale": ("size", 0.01, -1.0),
    "edge_update": ("size", 0.1, 0.5),
}


def test_the_table_has_these_rows_in_this_order() -> None:
    assert list(ROWS) == list(NAMES) == [feature.name for feature in FEATURES]
    assert CLIP == 5.0


@pytest.mark.parametrize("name", ROWS)
def test_a_row_scales_its_quantity_and_undoes_it(name: str) -> None:
    group, quantity, value = ROWS[name]
    feature = BY_NAME[name]
    assert feature.group == group
    assert feature.scaled(quantity) == pytest.approx(value, abs=1e-12)
    assert feature.quantity(value) == pytest.approx(quantity, rel=1e-12)
    np.testing.assert_allclose(feature.scaled(np.full((2, 3), quantity)), np.full((2, 3), value), atol=1e-12)


@pytest.mark.parametrize("name", [name for name, feature in BY_NAME.items() if feature.log])
def test_a_logarithm_is_taken_of_something_positive(name: str) -> None:
    feature = BY_NAME[name]
    assert feature.scaled(0.0) == feature.scaled(-1.0) == feature.scaled(LEAST)
    assert feature.quantity(feature.scaled(0.0)) == pytest.approx(1e-30, rel=1e-6, abs=0)


def test_zero_stays_the_zero_it_is_where_nothing_is_added() -> None:
    assert np.signbit(BY_NAME["grad_cos"].scaled(-0.0))


def test_groups_hold_every_feature_once_in_its_order() -> None:
    assert {name: group for group, names in GROUPS.items() for name in names} == {n: ROWS[n][0] for n in NAMES}
    assert list(GROUPS) == ["clock", "epochs", "probe", "level", "loss", "sketch", "validation", "size"]
    assert all(list(names) == [name for name in NAMES if name in names] for names in GROUPS.values())
    assert GROUPS["probe"] == PROBE_NAMES


def test_what_is_constant_in_a_training_and_what_a_feature_is_made_of() -> None:
    """From this follow what a store keeps per run, and what is not explained where it was not measured."""
    probe, epochs, examples = GROUPS["probe"], ("has_epochs", "log_epochs"), ("has_examples", "log_examples")
    constant = {"log_steps", "is_sgd", *epochs, *examples, *probe, *GROUPS["size"]}
    assert {feature.name for feature in FEATURES if feature.per_run} == constant
    loss = dict.fromkeys(set(GROUPS["loss"]) - {"since_best"}, "loss_mean")
    sources = {name: "steps_per_epoch" for name in epochs} | {name: "examples" for name in examples} | loss
    sources |= {"grad_norm": "grad_norm", "grad_cos": "grad_norm", "update_ratio": "update_norm"}
    sources |= {"update_cos": "update_norm", "weight_norm": "weight_norm"}
    assert {feature.name: feature.source for feature in FEATURES if feature.source} == sources


def test_the_table_has_what_the_shipped_policy_observes() -> None:
    manifest = load_policy(TOP / "runtime/lrpilot/models/default/policy.onnx").manifest
    assert set(manifest.features) <= set(NAMES)
    assert manifest.features_version == VERSION
