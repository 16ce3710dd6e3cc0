"""Local processes: one outcome per item whatever becomes of its worker, and no process left behind."""

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.scaling.soak import workers
from chores import (
    HERE,
    LIMIT,
    NAMES,
    Chore,
    await_file,
    check,
    check_killed_driver,
    chores,
    do,
    double,
    eventually,
    fail,
    hang,
    meet,
    pids,
    settled,
    touch,
)
from pipeline.engines import Engine, EngineError, Outcome, engine, results


@pytest.fixture(scope="module")
def local() -> Iterator[Engine]:
    yield engine("local", 2, time_limit=LIMIT)


@pytest.fixture(scope="module")
def came(local: Engine, tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    return list(local.imap_unordered(do, chores(tmp_path_factory.mktemp("chores"))))


@pytest.mark.parametrize("name", NAMES)
def test_outcome(name: str, came: list[Outcome]) -> None:
    check(name, came)


def test_nothing_besides(came: list[Outcome]) -> None:
    assert sorted(o.item.name for o in came) == sorted(NAMES)
    (lost,) = (o for o in came if o.item.name == "dies always")
    assert lost.failure is not None and lost.failure.message == "its process died (signal 9) 3 times"


def test_first_free_first_served(local: Engine, tmp_path: Path) -> None:
    """One worker does all the rest while the other waits for the last of it."""
    flag = tmp_path / "flag"
    items = [Chore("waits", partial(await_file, flag)), *(Chore(str(i), partial(double, i)) for i in range(4))]
    done = [o.item.name for o in local.imap_unordered(do, [*items, Chore("last", partial(touch, flag))])]
    assert done[:4] == ["0", "1", "2", "3"]
    assert sorted(done[4:]) == ["last", "waits"]


def test_nothing_to_do(local: Engine) -> None:
    assert list(local.imap_unordered(do, [])) == []


def test_results(local: Engine) -> None:
    """The first failure raises, and shows the worker's error with its traceback."""
    wanted = results(local, do, [Chore("raises", partial(fail, KeyError("gone")))])
    with pytest.raises(EngineError, match=r"Chore.*KeyError: 'gone'") as error:
        next(wanted)
    assert isinstance(error.value.__cause__, KeyError)
    assert "in fail" in error.value.__cause__.__notes__[0]


def test_processes_stay_for_the_next_call(local: Engine) -> None:
    def serving() -> set[object]:
        return {o.result for o in local.imap_unordered(os.getpgid, [0])} and set(_workers())

    assert serving() == serving()


def test_a_forgotten_call_gives_its_process_back_unharmed() -> None:
    """The collector finalises the older objects of a cycle first: the pipe, then the call."""
    before, here = _workers(), engine("local", 1)
    ((_, serving),) = ((o.result, _workers() - before) for o in here.imap_unordered(double, [1]))
    forgotten: list[object] = [here.imap_unordered(double, [2])]
    assert next(forgotten[0]).result == 4  # type: ignore[call-overload]
    forgotten.append(forgotten)  # a cycle
    del forgotten
    gc.collect()
    assert [o.result for o in here.imap_unordered(double, [3])] == [6]
    assert _workers() - before == serving
    del here
    gc.collect()
    assert _workers() == before


def test_closing_leaves_no_process(tmp_path: Path) -> None:
    before = _workers()
    here = engine("local", 2)
    outcomes = here.imap_unordered(do, [Chore("", partial(double, 1)), *[Chore("", partial(hang, tmp_path))] * 2])
    next(outcomes)
    eventually(lambda: len(pids(tmp_path)) > 0)
    outcomes.close()
    assert _workers() == before


def test_worker_is_settled_and_ends_with_the_engine() -> None:
    before = _workers()
    assert list(results(engine("local", 1), settled, [0])) == [(1, True)]
    assert _workers() == before


def test_driver_killed(tmp_path: Path) -> None:
    """Functions of __main__ are found, and workers do not outlive their driver."""
    check_killed_driver("local", tmp_path)


def test_workers_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import sys\n"
        "from pipeline.engines import engine\n"
        "if __name__ == '__main__':\n"
        "    print(list(engine('local', 1).imap_unordered(abs, [1])))\n"
        "else:\n"
        "    sys.exit(3)\n"
    )
    command = [sys.executable, "-m", "broken"]
    run = subprocess.run(command, env=HERE, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert "EngineError: workers end while they start: its process died (status 3)" in run.stderr


@pytest.mark.parametrize(
    ("visible", "workers", "pinned"),
    [(None, 0, ["0", "1"]), (None, 3, ["0", "0", "1"]), ("4,7", 0, ["4", "7"])],
    ids=["one each", "round robin", "as the driver sees them"],
)
def test_each_worker_has_its_gpu(
    visible: str | None, workers: int, pinned: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    here = engine("local", workers, device="cuda")
    together = partial(meet, tmp_path, len(pinned))
    devices = [o.result["CUDA_VISIBLE_DEVICES"] for o in here.imap_unordered(do, [Chore("", together)] * len(pinned))]
    assert sorted(devices) == pinned
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu() -> None:
    with pytest.raises(ValueError, match="no GPU here; want device: cpu"):
        engine("local", device="cuda")


def test_unknown_engine() -> None:
    with pytest.raises(ValueError, match="'slurm', want one of local, ray"):
        engine("slurm")


def test_ray_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'lrpilot\[ray\]'"):
        engine("ray")


def _workers() -> set[int]:
    """Processes that an engine of this process started."""
    return {process.pid for process in workers(os.getpid())}
