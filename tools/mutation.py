"""Make one small change of a module at a time (with cosmic-ray), and check whether the module's tests notice.

The changes are made in copies of the tree, one per worker. A worker imports the large libraries once and forks for each
run of the tests, so a mutant takes as long as the tests themselves.
"""

from __future__ import annotations

import ast
import gc
import hashlib  # and nothing of lrpilot: a worker imports this module, then lrpilot from its own copy
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from cosmic_ray.ast import is_number
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS, get_operator
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult
from parso.python.tree import Number
from tqdm import tqdm

# Without plugins pytest starts sooner; "CI" has hypothesis draw the same examples every time.
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "CI": "1", "PYTHONDONTWRITEBYTECODE": "1"}
PYTEST = ("-x", "-q", "--tb=short", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception")
LIMIT = 300.0  # seconds after which the tests are stopped: they have noticed a loop without an end

Place = tuple[tuple[int, int], tuple[int, int]]  # line and column of the start and of the end
Change = tuple[str, str, str]  # module, line before and line after: it is known by these also when lines move


class Scale(Operator):
    """Whole numbers and zero: plus one, minus one. Others: doubled, halved. (1e-8 plus one would be noticed by every
    test.)
    """

    def mutation_positions(self, node: Any) -> Iterator[Place]:
        if is_number(node):
            yield from [(node.start_pos, node.end_pos)] * 2

    def mutate(self, node: Any, index: int) -> Any:
        value = ast.literal_eval(node.value)
        whole = isinstance(value, int) or not value
        return Number(repr(value + (1, -1)[index] if whole else value * (2, 0.5)[index]), node.start_pos, node.prefix)

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


OPERATOR_PROVIDERS["own"] = {"Scale": Scale}  # in every worker too: they import this module


def settle(folder: str, libraries: list[str]) -> None:
    """Make this process a worker: in a copy of the files that git tracks or would add, with the libraries imported."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    own = Path(folder, str(os.getpid()))
    names = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], capture_output=True, check=True).stdout
    for name in filter(os.path.isfile, names.decode().split("\0")):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, own / name)
    os.chdir(own)
    sys.dont_write_bytecode = True
    sys.path[:0] = paths = [str(own / "runtime"), str(own)]
    os.environ.update(SETTINGS, PYTHONPATH=os.pathsep.join(paths))
    for name in libraries:
        import_module(name)
    gc.freeze()  # what is imported is no garbage: forks need not go through it


def run_tests(tests: list[str], output: Path) -> None:
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os._exit(pytest.main([*PYTEST, *tests]))


def noticed(tests: list[str]) -> tuple[bool, str]:
    """Whether the tests fail, and their output."""
    output = Path("output.txt")
    child = multiprocessing.get_context("fork").Process(target=run_tests, args=(tests, output))
    child.start()
    child.join(LIMIT)
    child.kill()
    child.join()
    return child.exitcode != 0, output.read_text()


def attempt(item: WorkItem, tests: list[str]) -> tuple[str, WorkResult]:
    """Id and result of one mutant."""
    (mutation,) = item.mutations
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    with use_mutation(mutation.module_path, operator, mutation.occurrence) as sources:
        pairs = zip(*(str(source).splitlines() for source in sources), strict=True)
        lines = [(before.strip(), after.strip()) for before, after in pairs if before != after]
        outcome = TestOutcome.KILLED if noticed(tests)[0] else TestOutcome.SURVIVED
    return item.job_id, WorkResult(WorkerOutcome.NORMAL, test_outcome=outcome, diff=json.dumps(lines))


def session(folder: Path, module: str, tests: list[str], operators: list[str]) -> Path:
    """The module's mutants and results: a file in `folder`, created if needed. Files of earlier states are removed."""
    read = [Path(p).read_bytes() for p in (module, *tests) if Path(p).is_file()]
    key = hashlib.sha256(repr((tests, operators, read)).encode()).hexdigest()[:12]
    stem = module.replace("/", ".")
    path = folder / f"{stem}-{key}.sqlite"
    for other in set(folder.glob(f"{stem}-*")) - {path}:
        other.unlink()
    wanted, left_out = re.compile("|".join(operators)), list(unmutable(read[0].decode()))

    def counts(mutation: MutationSpec) -> bool:
        inside = any(a <= mutation.start_pos and mutation.end_pos <= b for a, b in left_out)
        return not inside and bool(wanted.fullmatch(mutation.operator_name))

    with use_db(path) as db, use_db(":memory:") as every:
        if not db.num_work_items:
            init([Path(module)], every, {})
            db.add_work_items(item for item in every.work_items if counts(item.mutations[0]))
    return path


@contextmanager
def workers(count: int, libraries: list[str]) -> Iterator[ProcessPoolExecutor]:
    """Processes that can try mutants of the tree in the current folder."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, context, settle, (folder, libraries)) as pool:
            yield pool


def unmutable(source: str) -> Iterator[Place]:
    """What is never mutated: annotations, which nothing evaluates, decorators, and bare stars (which are not
    products).
    """
    for node in ast.walk(ast.parse(source)):
        annotations = getattr(node, "annotation", None), getattr(node, "returns", None)
        for part in filter(None, (*annotations, *getattr(node, "decorator_list", ()))):
            yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)
    for row, line in enumerate(source.splitlines(), 1):
        yield from (((row, star.start()), (row, star.end())) for star in re.finditer(r"\*,", line))


def survivors(module: str, path: Path, tests: list[str], pool: ProcessPoolExecutor) -> tuple[int, list[Change]]:
    """Number of mutants of a module, and the changes that no test noticed. Mutants that were tried before are not tried
    again.
    """
    with use_db(path) as db:
        if pending := db.pending_work_items:
            failed, output = pool.submit(noticed, tests).result()
            if failed:
                raise RuntimeError(f"{module}: its tests fail without any change\n{output}")
            results = pool.map(attempt, pending, repeat(tests))
            for job_id, result in tqdm(results, module, len(pending), mininterval=5):
                db.set_result(job_id, result)
        done = sorted(db.completed_work_items, key=lambda pair: pair[0].mutations[0].start_pos)
    alive = [json.loads(result.diff or "") for _, result in done if result.test_outcome == TestOutcome.SURVIVED]
    return len(done), [(module, "\n".join(b for b, _ in lines), "\n".join(a for _, a in lines)) for lines in alive]
