"""What the tests of the engines have workers do, and what must come of it.

`python -m chores ENGINE FOLDER` is a driver of its own, whose workers find its functions in __main__.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from pipeline.engines import Outcome, engine
from repository import MODULES

LIMIT = 3.0  # seconds per item
HERE = {**os.environ, "PYTHONPATH": MODULES}


@dataclass(frozen=True)
class Chore:
    """An item, and what must come of it."""

    name: str
    work: Callable[[], Any]
    result: Any = None
    kind: str | None = None
    message: str | None = None


class TwoPartsError(Exception):
    """Pickles, but unpickling calls it with one argument."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def do(chore: Chore) -> Any:
    return chore.work()


def double(x: int) -> int:
    return 2 * x


def fail(error: BaseException) -> None:
    raise error


def fail_in_two_parts() -> None:
    raise TwoPartsError("this", "that")


def hang(folder: Path) -> None:
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(600)


def die(marks: Path, times: int) -> str:
    """End by signal 9 at the first so many attempts, told by files of that folder."""
    marks.mkdir(exist_ok=True)
    before = len(list(marks.iterdir()))
    (marks / str(before)).touch()
    if before < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"attempt {before + 1}"


def meet(folder: Path, others: int) -> dict[str, str]:
    """Wait for so many processes in here; this one's environment."""
    (folder / f"{os.getpid()}.pid").touch()
    eventually(lambda: len(pids(folder)) >= others)
    return dict(os.environ)


def touch(path: Path) -> None:
    path.touch()


def await_file(path: Path) -> None:
    eventually(path.exists)


def settled(_: int) -> tuple[int, bool]:
    """Torch's threads, and whether big tensors come without page faults once there were some."""
    import resource

    import torch

    faults = []
    for _ in range(40):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(5_000_000)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return torch.get_num_threads(), sorted(faults)[len(faults) // 2] < 100  # else 5,000


def train(seed: int) -> bytes:
    """Parameters after some steps of a small network."""
    import torch

    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.GELU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        net(torch.randn(32, 20)).square().mean().backward()
        optimizer.step()
    return torch.nn.utils.parameters_to_vector(net.parameters()).detach().numpy().tobytes()


def chores(folder: Path) -> list[Chore]:
    """One of each kind."""
    return [
        Chore("hangs", partial(hang, folder), None, "timeout", f"no result within {LIMIT:g} s"),
        Chore("returns", partial(double, 3), 6),
        Chore("returns none", partial(touch, folder / "touched")),
        Chore("raises", partial(fail, ValueError("no\ngood")), None, "raised", "ValueError: no good"),
        Chore("raises what cannot travel", fail_in_two_parts, None, "raised", "TwoPartsError: this and that"),
        Chore("exits", partial(fail, SystemExit(3)), None, "raised", "SystemExit: 3"),
        Chore("dies once", partial(die, folder / "once", 1), "attempt 2"),
        Chore("dies twice", partial(die, folder / "twice", 2), "attempt 3"),
        Chore("dies always", partial(die, folder / "always", 9), None, "lost", "3 times"),
    ]


NAMES = [chore.name for chore in chores(Path())]


def check(name: str, outcomes: Sequence[Outcome]) -> None:
    """That what came of a chore is what must come of it."""
    (outcome,) = (o for o in outcomes if o.item.name == name)
    chore, failure = outcome.item, outcome.failure
    assert outcome.result == chore.result
    assert (failure and failure.kind) == chore.kind
    assert chore.message is None or (failure is not None and chore.message in failure.message)


def check_killed_driver(name: str, folder: Path) -> None:
    """That a driver's results, and nothing else, are on its standard output, and that its death ends its workers."""
    command = [sys.executable, "-m", "chores", name, str(folder)]
    with subprocess.Popen(command, env=HERE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == "[0, 2, 4, 6, 8]\n"
        eventually(lambda: len(pids(folder)) == 2)
        driver.send_signal(signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids(folder))), seconds={"local": 10, "ray": 30}[name])


def pids(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.pid")]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


if __name__ == "__main__":
    name, folder = sys.argv[1], Path(sys.argv[2])
    here = engine(name, 2)
    print(sorted(o.result for o in here.imap_unordered(do, [Chore(str(x), partial(double, x)) for x in range(5)])))
    sys.stdout.flush()
    list(here.imap_unordered(do, [Chore("", partial(hang, folder))] * 2))
