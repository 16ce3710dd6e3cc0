"""What a killed DVC leaves is cleared away, and nothing else; real locks, processes, and a real DVC."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import zc.lockfile

from repository import TOP
from tools.recover import is_stale, is_torn, recover

LOCK = (TOP / "dvc.lock").read_text()
TORN = "profiles/tiny/dvc.lock was cut short; it is dvc.lock.torn now, and DVC makes a new one"


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in which DVC ran; the working directory."""
    monkeypatch.chdir(tmp_path)
    for folder in (".dvc/tmp", "profiles/tiny"):
        Path(folder).mkdir(parents=True)
    return tmp_path


def rwlock(pid: int, command: str) -> str:
    owner = {"pid": pid, "cmd": command}
    return json.dumps({"write": {"/top/data": owner}, "read": {"/top/params.yaml": [owner]}})


@pytest.mark.parametrize(
    ("content", "torn"),
    [
        (LOCK, False),
        ("", True),
        (LOCK[: LOCK.index("    deps:") + 6], True),
        (LOCK[:-1000] + "\n      ha", True),
        (LOCK.replace("stages:", "<<<<<<< HEAD\nstages:", 1), False),
    ],
    ids=["whole", "empty", "begun", "nearly whole", "to be merged"],
)
def test_a_lock_that_is_cut_short_is_set_aside(top: Path, content: str, torn: bool) -> None:
    lock = top / "profiles/tiny/dvc.lock"
    assert not is_torn(lock)
    lock.write_text(content)
    (top / "dvc.lock").write_text(LOCK)
    assert is_torn(lock) is torn
    assert recover() == ([TORN] if torn else [])
    assert lock.exists() is not torn
    assert (lock.with_name("dvc.lock.torn") if torn else lock).read_text() == content
    assert (top / "dvc.lock").read_text() == LOCK
    assert recover() == []


@pytest.fixture(scope="module")
def owners() -> Iterator[dict[str, tuple[int, str]]]:
    """Process id and noted command of a process that runs it, and of others."""
    command = (sys.executable, "-c", "import time; time.sleep(600)")
    running, dead = subprocess.Popen(command), subprocess.Popen(command)
    dead.kill()
    while psutil.Process(dead.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    arguments = " ".join(command[1:])
    yield {
        "running": (running.pid, f"/venv/bin/dvc {arguments}"),
        "another": (os.getpid(), "/venv/bin/dvc repro profiles/tiny/dvc.yaml"),
        "not waited for": (dead.pid, f"/venv/bin/dvc {arguments}"),
        "gone": (2**22 + 1, f"/venv/bin/dvc {arguments}"),
    }
    running.kill()
    running.wait()
    dead.wait()


@pytest.mark.parametrize(
    ("owner", "stale"), [("running", False), ("another", True), ("not waited for", True), ("gone", True)]
)
def test_a_rwlock_of_dead_processes_is_removed(
    top: Path, owners: dict[str, tuple[int, str]], owner: str, stale: bool
) -> None:
    path = top / ".dvc/tmp/rwlock"
    assert not is_stale(path)
    path.write_text(rwlock(*owners[owner]))
    assert is_stale(path) is stale
    assert recover() == ([".dvc/tmp/rwlock of a DVC that was killed is removed"] if stale else [])
    assert path.exists() is not stale


@pytest.mark.parametrize(("content", "stale"), [("", True), ('{"write": {"/to', True), ("{}", False)])
def test_a_rwlock_that_cannot_be_read_is_removed(top: Path, content: str, stale: bool) -> None:
    path = top / ".dvc/tmp/rwlock"
    path.write_text(content)
    recover()
    assert path.exists() is not stale


def test_nothing_is_touched_while_a_dvc_works(top: Path) -> None:
    for name in ("dvc.lock", ".dvc/tmp/rwlock"):
        (top / name).write_text("")
    held = zc.lockfile.LockFile(".dvc/tmp/lock")
    assert recover() == []
    held.close()
    assert len(recover()) == 2


def test_dvc_goes_on_afterwards(tmp_path: Path) -> None:
    """With both files cut short it refuses to; recovered, it finds its results."""
    environment = os.environ | {"PYTHONPATH": str(TOP), "DVC_NO_ANALYTICS": "true"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    stage = "stages:\n  one:\n    cmd: cp input output\n    deps: [input]\n    outs: [output]\n"
    (tmp_path / "dvc.yaml").write_text(stage)
    (tmp_path / "input").write_text("x")
    for words in (("init", "--no-scm", "--quiet"), ("repro",)):
        assert call("dvc", *words).returncode == 0
    lock, held = tmp_path / "dvc.lock", tmp_path / ".dvc/tmp/rwlock"
    whole = lock.read_text()
    for path, cut in ((lock, whole[:60]), (held, "")):
        path.write_text(cut)
        assert call("dvc", "repro").returncode != 0
        assert call("tools.recover").returncode == 0
        done = call("dvc", "repro")
        assert done.returncode == 0 and "Running stage" not in done.stdout
        assert lock.read_text() == whole
