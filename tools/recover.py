"""`python -m tools.recover`: clear away what a killed `dvc repro` left, so that the next one works.

`make repro` calls this first.

DVC overwrites two kinds of files in place. A kill can cut them short, and DVC then refuses to work until they are gone:

- dvc.lock, the repository's or a profile's, at the end of each stage. It is renamed to dvc.lock.torn. DVC then runs
  these stages again, and they find their results in the caches.
- .dvc/tmp/rwlock, in which a DVC notes the files that it works on. It is removed if none of the DVCs in it runs any
  more. DVC itself takes any process that has the id of a killed one for that one.

While a DVC holds the repository's lock, nothing is touched.
"""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import zc.lockfile
from dvc.exceptions import DvcException
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils import strictyaml

CONFLICT = re.compile("^<<<<<<< ", re.MULTILINE)  # by git, for the user to resolve


def recover(top: Path = Path(".")) -> list[str]:
    """Do so in the repository at `top`; returns a message for each thing done."""
    working = top / ".dvc/tmp"
    if not working.is_dir():  # no DVC ran here
        return []
    try:
        guard = zc.lockfile.LockFile(str(working / "lock"))
    except zc.lockfile.LockError:
        return []
    with closing(guard):
        torn = [lock for lock in (top / "dvc.lock", *top.glob("profiles/*/dvc.lock")) if is_torn(lock)]
        for lock in torn:
            lock.replace(lock.with_suffix(".lock.torn"))
        messages = [f"{lock} was cut short; it is {lock.name}.torn now, and DVC makes a new one" for lock in torn]
        if is_stale(working / "rwlock"):
            (working / "rwlock").unlink()
            messages.append(f"{working / 'rwlock'} of a DVC that was killed is removed")
    return messages


def is_torn(lock: Path) -> bool:
    """Whether a dvc.lock is there that DVC cannot read, and that is not for the user to merge."""
    if not lock.exists():
        return False
    try:
        strictyaml.load(str(lock), COMPILED_LOCKFILE_SCHEMA)
    except DvcException:
        return not CONFLICT.search(lock.read_text(encoding="utf-8", errors="replace"))
    return False


def is_stale(rwlock: Path) -> bool:
    """Whether a rwlock cannot be read, or names DVCs of which none runs."""
    if not rwlock.exists():
        return False
    try:
        owners = set(_owners(json.loads(rwlock.read_text(encoding="utf-8"))))
    except json.JSONDecodeError:
        return True
    return bool(owners) and not any(_runs(pid, command) for pid, command in owners)


def _owners(held: dict[str, dict]) -> Iterator[tuple[int, str]]:
    """Process id and command of every process that a rwlock names."""
    for owner in held.get("write", {}).values():
        yield owner["pid"], owner["cmd"]
    for readers in held.get("read", {}).values():
        yield from ((reader["pid"], reader["cmd"]) for reader in readers)


def _runs(pid: int, command: str) -> bool:
    """Whether the process is the one that DVC noted with this command; a dead one has no command line."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    _, _, arguments = command.partition(" ")  # before them: DVC's file, which `python -m dvc` does not show
    return bool(words) and " ".join(words).endswith(arguments)


def main() -> None:
    for line in recover():
        print(line)


if __name__ == "__main__":
    main()
