"""Ray: the outcomes of local processes, on a cluster whose nodes have neither our code nor our files."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import chores
from chores import (
    LIMIT,
    NAMES,
    Chore,
    alive,
    check,
    check_killed_driver,
    do,
    double,
    eventually,
    hang,
    pids,
    settled,
    train,
)
from pipeline.engines import Outcome, engine, results

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'lrpilot[ray]'")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes of one core, the second with what Ray takes for a GPU; they start in an empty folder."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        patch.delenv("PYTHONPATH", raising=False)
        here = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        here.add_node(num_cpus=1)
        here.add_node(num_cpus=1, num_gpus=1)
        patch.setenv("RAY_ADDRESS", here.address)
        ray.cloudpickle.register_pickle_by_value(chores)  # this module is not among the code that nodes get
        connection = engine("ray")  # the first one connects, and stays connected until it is gone
        yield here
        del connection
        ray.cloudpickle.unregister_pickle_by_value(chores)
        here.shutdown()


@pytest.fixture(scope="module")
def came(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    # An engine holds its cores until it is gone, so here and below no test keeps one for the next.
    pool = engine("ray", time_limit=LIMIT)
    return list(pool.imap_unordered(do, chores.chores(tmp_path_factory.mktemp("chores"))))


@pytest.mark.parametrize("name", NAMES)
def test_outcome(name: str, came: list[Outcome]) -> None:
    check(name, came)


def test_nothing_besides(came: list[Outcome]) -> None:
    assert sorted(o.item.name for o in came) == sorted(NAMES)


def test_workers_are_settled_and_equal_local_ones(cluster: Any) -> None:
    here = engine("ray")
    assert list(results(here, settled, [0])) == [(1, True)]
    trained = [set(results(some, train, range(3))) for some in (here, engine("local", 2))]
    assert len(trained[0]) == 3
    assert trained[0] == trained[1]


def test_nodes_get_the_code(cluster: Any) -> None:
    """And nothing else: neither data nor results."""

    def look(_: int) -> tuple[list[str], bool, list[str]]:
        import lrpilot
        import pipeline.simulation.simulate
        import policy.trajectories

        modules = (lrpilot, pipeline.simulation.simulate, policy.trajectories)
        inside = all(Path(str(m.__file__)).is_relative_to(Path.cwd()) for m in modules)
        return sorted(os.listdir()), inside, sorted(map(str, Path("policy").rglob("*.onnx")))

    ((files, inside, bundles),) = results(engine("ray"), look, [0])
    assert files == ["pipeline", "policy", "runtime"]
    assert inside
    assert bundles == ["policy/behaviour/initial.onnx", "policy/experts/small.onnx"]


def test_each_worker_has_its_gpu(cluster: Any) -> None:
    here = engine("ray", device="cuda")
    (device,) = results(here, lambda name: os.environ[name], ["CUDA_VISIBLE_DEVICES"])
    assert device == "0"


def test_closing_leaves_no_process(cluster: Any, tmp_path: Path) -> None:
    work = [Chore("", partial(double, 1)), *[Chore("", partial(hang, tmp_path))] * 2]
    outcomes = engine("ray").imap_unordered(do, work)
    next(outcomes)
    eventually(lambda: len(pids(tmp_path)) > 0)
    outcomes.close()
    eventually(lambda: not any(map(alive, pids(tmp_path))), seconds=10)


def test_without_a_cluster_and_driver_killed(tmp_path: Path) -> None:
    """A Ray of one's own: nothing but the results on standard output, and nothing left behind."""
    check_killed_driver("ray", tmp_path)


def test_node_lost(cluster: Any, tmp_path: Path) -> None:
    """An item whose node dies is done by another. The last test: a node is gone."""

    def stay(folder: Path) -> str:
        """Hang, but elsewhere answer where that was."""
        import time

        if first := list(folder.iterdir()):
            return first[0].name
        (folder / ray.get_runtime_context().get_node_id()).touch()
        time.sleep(600)
        return "never"

    here = engine("ray", 1)
    outcomes = here.imap_unordered(stay, [tmp_path])
    done: list[Outcome] = []
    driver = Thread(target=lambda: done.extend(outcomes))
    driver.start()
    eventually(lambda: len(list(tmp_path.iterdir())) == 1)
    name = next(tmp_path.iterdir()).name
    (node,) = (n for n in cluster.worker_nodes if n.node_id == name)
    cluster.remove_node(node, allow_graceful=False)
    driver.join(60)
    assert [(o.result, o.failure) for o in done] == [(name, None)]
