"""Groups of twins: who departs from whom, when and by how much, and that it is what the file says."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import write_bundle
from lrpilot import load_policy
from lrpilot.decisions.cadence import Cadence, CadenceSpec
from lrpilot.decisions.protocol import Protocol
from pipeline.config import BranchesConfig
from pipeline.simulation.branching import NEVER, SMALLEST, Branches, departures
from pipeline.simulation.recorder import Recording
from pipeline.simulation.recording import Spec, record
from pipeline.simulation.simulate import Lineage, simulate
from pipeline.workloads.base import Family
from pipeline.workloads.recorded import families
from policy.trajectories import check_rows
from tiny import world

N, TWINS = 90, 5
CADENCE, EQUATION = Cadence(CadenceSpec(), N, True), Protocol().action


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that names a level and later lowers the level the more, the higher that is."""
    folder = tmp_path_factory.mktemp("policies")
    return write_bundle(folder / "a.onnx", bias=0.1, weights={"level": -0.1}, squash=False)


def branch(
    bundle: Path, base: str, seed: int = 0, levels: int = 1, moves: int = 2, rolled_in: float = 0.0
) -> tuple[Branches, Recording]:
    groups = BranchesConfig(1.0, levels, moves, TWINS, TWINS, base, rolled_in)
    branches = Branches(groups, CADENCE, np.random.default_rng(seed), [load_policy(bundle)])
    seeds = (5 + branches.group).tolist()
    lineage = Lineage(branches.base, branches.departs_at)
    return branches, simulate(world(n_steps=N), seeds, Protocol(), branches.act, lineage=lineage)


@given(st.integers(0, 1000), st.integers(0, 3), st.integers(0, 3), st.integers(2, 9))
def test_every_group_has_one_base_and_pairs_of_opposite_moves(seed: int, levels: int, moves: int, twins: int) -> None:
    if not levels + moves:
        return
    path = Path("policy/behaviour/initial.onnx").resolve()
    groups = BranchesConfig(1.0, levels, moves, twins, twins, "hold", 0.5)
    branches = Branches(groups, CADENCE, np.random.default_rng(seed), [load_policy(path)])
    shape = (levels + moves, twins)
    at, push = branches.departs_at.reshape(shape), branches.push.reshape(shape)
    assert (branches.base.reshape(shape) == np.arange(levels + moves)[:, None] * twins).all()
    assert (at[:, 0] == NEVER).all() and (at[:levels, 1:] == 0).all()
    assert ((at[levels:, 1:] >= 1) & (at[levels:, 1:] < CADENCE.decisions)).all()
    ups, downs = push[:, 1::2], push[:, 2::2]
    np.testing.assert_array_equal(ups[:, : downs.shape[1]], -downs)
    np.testing.assert_array_equal(at[:, 1::2][:, : downs.shape[1]], at[:, 2::2])
    assert (np.abs(push) >= SMALLEST).all() and (np.abs(push) <= 1).all()


def test_departures_lie_anywhere_after_the_first_decision() -> None:
    """Of many, half are spread over decisions, half over steps: 11 of 43 decisions fall into the first tenth."""
    cadence = Cadence(CadenceSpec(), 2000, True)
    at = departures(cadence, 0, 20_000, np.random.default_rng(0))
    assert at.min() == 1 and at.max() == cadence.decisions - 1
    by_decision, by_step = at[::2], at[1::2]
    np.testing.assert_allclose(np.mean(by_decision <= 11), 11 / 43, atol=0.02)
    progress = (cadence.bounds[by_step] - cadence.bounds[0]) / (2000 - cadence.bounds[0])
    np.testing.assert_allclose(progress.mean(), 0.5, atol=0.03)


@pytest.mark.parametrize("earliest", [1, 7, 41, 42])
def test_no_departure_is_before_the_earliest(earliest: int) -> None:
    cadence = Cadence(CadenceSpec(), 2000, True)
    at = departures(cadence, earliest, 2000, np.random.default_rng(0))
    assert at.min() == earliest and at.max() == cadence.decisions - 1


@pytest.mark.parametrize("seed", range(4))
def test_bases_that_are_rolled_in_follow_the_policy_and_then_hold(bundle: Path, seed: int) -> None:
    branches, recording = branch(bundle, "hold", seed, rolled_in=1.0)
    moves = np.diff(np.stack(recording.levels[:-1]), axis=0)  # (D - 1, K), of later decisions
    bases = np.flatnonzero(branches.twin == 0)
    of_levels, *of_moves = bases
    departs_at = branches.departs_at[branches.departs_at > 0].min()
    assert (moves[:, of_levels] == 0).all()
    for base in of_moves:
        moving = np.flatnonzero(moves[:, base])  # the policy answers with a move everywhere
        assert moving.tolist() == list(range(len(moving))) and len(moving) < departs_at
    twins = np.flatnonzero(branches.departs_at > 0)
    assert (np.count_nonzero(moves[departs_at - 1 :, twins], axis=0) == 1).all()


def test_twins_hold_their_level_but_where_they_depart(bundle: Path) -> None:
    branches, recording = branch(bundle, "hold")
    level = np.stack(recording.levels[:-1])  # (D, K)
    moves = np.diff(level, axis=0)
    of_moves = branches.departs_at > 0
    wanted = np.zeros_like(moves)
    runs = np.flatnonzero(of_moves)
    size = np.where(branches.push > 0, EQUATION.rise, EQUATION.fall) * branches.push
    wanted[branches.departs_at[runs] - 1, runs] = size[runs]
    np.testing.assert_allclose(moves, wanted, atol=1e-9)
    np.testing.assert_array_equal(level[0, of_moves], level[0, branches.base[of_moves]])
    levels = np.sort((level[0, :TWINS] - np.asarray(recording.anchor)[:TWINS])[1:])
    assert (np.diff(levels) > 0).all() and levels[-1] - levels[0] > EQUATION.span  # over the whole range


def test_twins_follow_the_policy_on_what_they_observe_themselves(bundle: Path) -> None:
    """Its moves depend on the level, so a twin that has moved up comes down faster than its base."""
    branches, recording = branch(bundle, "policy", moves=3)
    level = np.stack(recording.levels[:-1])
    for run in np.flatnonzero(branches.departs_at > 0):
        at, base = branches.departs_at[run], branches.base[run]
        np.testing.assert_array_equal(level[:at, run], level[:at, base])
        gap = level[at:, run] - level[at:, base]
        assert gap[0] * branches.push[run] > 0
        assert (np.abs(gap[1:]) < np.abs(gap[:-1])).all()


@pytest.mark.parametrize("base", ["hold", "policy"])
def test_a_file_says_who_departed_when_and_by_how_much(
    base: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(families.FAMILIES, "tiny", Family("tiny", "train", lambda rng: world(n_steps=N), "odd"))
    policy = (str(bundle), load_policy(bundle).manifest.graph)
    groups = BranchesConfig(1.0, 1, 2, TWINS, TWINS, base, 0.0)
    spec = Spec("tiny", 3, groups.runs, True, (), (policy,), (0.0, 1.0), groups, 32, "cpu", "by hand")
    table = pa.parquet.read_table(pa.BufferReader(record(spec)))
    check_rows(table, Path("tiny"))
    rows = table.to_pandas()
    heads, level = rows[rows.decision == 0], rows.pivot_table(index="run_id", columns="decision", values="level")
    assert heads.group.tolist() == np.repeat([0, 1, 2], TWINS).tolist()
    assert heads.twin.tolist() == [0, 1, 2, 3, 4] * 3
    assert heads.schedule.unique().tolist() == [f"{base}_levels", f"{base}_moves"]
    assert heads.seed.tolist() == (3 + heads.group).tolist()
    for _, twins in heads.groupby("group"):
        told = twins[["tells_size", "shows_validation"]]
        assert len(told.drop_duplicates()) == 1
        origin = twins.run_id.iloc[0]
        for row in twins.iloc[1:].itertuples():
            by = level.loc[row.run_id, row.departs_at] - level.loc[origin, row.departs_at]
            np.testing.assert_allclose(row.departs_by, by)
    assert heads.departs_at[heads.twin == 0].eq(NEVER).all() and heads.departs_by[heads.twin == 0].eq(0).all()


def test_a_twin_whose_base_ended_before_has_not_departed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explosive() -> object:
        def loss(outputs, y):  # without bounds, so that a high level ends in numbers that are not finite
            return (outputs.sum(-1) - y).square().square().mean()

        from dataclasses import replace

        return replace(world("sgd", N), loss=loss)

    monkeypatch.setitem(families.FAMILIES, "tiny", Family("tiny", "train", lambda rng: explosive(), "odd"))
    wild = write_bundle(bundle.parent / "wild.onnx", bias=1.0, squash=False)
    policy = (str(wild), load_policy(wild).manifest.graph)
    groups = BranchesConfig(1.0, 0, 2, TWINS, TWINS, "hold", 0.0)
    spec = Spec("tiny", 3, groups.runs, True, (), (policy,), (0.0, 1.0), groups, 32, "cpu", "by hand")
    rows = pa.parquet.read_table(pa.BufferReader(record(spec))).to_pandas()
    ends = rows[rows.terminated]
    assert ends.reason.eq("diverged").any()
    assert (ends.departs_at < ends.decision).all()
