"""A disk that is full: a process that may write no file above a size, as the kernel sees to it."""

import subprocess
import sys

from repository import TOP

PREPARE = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "


def run(code: str, *arguments: object, limit: int) -> str:
    """What `code` prints in a process with `arguments`; after its line FULL, files end at `limit` bytes."""
    command = [sys.executable, "-c", f"import sys\n{code}".replace("FULL", PREPARE.format(limit=limit))]
    done = subprocess.run([*command, *map(str, arguments)], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
