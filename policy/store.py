"""Every decision of a collection, as arrays on disk that are mapped into memory. One store serves all agents.

Agents differ in what their episodes hide. Hidden features are 0, so an observation is assembled when it is drawn. A row
per decision holds what changes within a run; the features of the validation loss are stored once for every period in
which it can be shown. A row per run holds what is constant in the run. Decisions are rows as in the files: a run of D
decisions has D + 1 rows, and the last one is its end, with reward 0. A store may instead hold only departures
(`policy.departures`); then each departure is a run of one decision.

Runs end with the budget or with a divergence, and both are terminal. (The horizon is part of the observation, so a run
that uses up its budget has ended and was not truncated. A truncated episode would also lose its last reward.)
"""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lrpilot.decisions.actions import ActionEquation
from lrpilot.decisions.features import FEATURES, GROUPS, NAMES
from policy import departures, mdp, trajectories
from policy.observations import TaskRecording, mask, observations
from policy.settings import Inferred, Reward

PERIODS = (1, 2, 4)  # decisions between two validations of a run that shows them
HIDDEN = len(PERIODS)  # in place of an index of PERIODS

VALIDATION, EPOCHS = GROUPS["validation"], GROUPS["epochs"]
EXAMPLES = tuple(feature.name for feature in FEATURES if feature.source == "examples")
WITHHELD = ((), EXAMPLES, EPOCHS)  # what a run hides of its data
EPOCHS_ALONE = 0.2  # share, of the runs that show the length of an epoch, that hide the number of examples
CONSTANT = tuple(feature.name for feature in FEATURES if feature.per_run)  # equal in all decisions of a run
CHANGING = tuple(name for name in NAMES if name not in (*VALIDATION, *CONSTANT))

# Columns of a decision's row, then of its run's: (feature, index of PERIODS where that matters). The last one is 0.
DECISION = (*((n, 0) for n in CHANGING), *((n, p) for p in range(len(PERIODS)) for n in VALIDATION))
RUN = (*((n, 0) for n in CONSTANT), ("", 0))
LAYOUT = (*DECISION, *RUN)
PERIOD, FEATURE = [p for _, p in DECISION], [NAMES.index(n) for n, _ in DECISION]
NOTHING = len(LAYOUT) - 1

PIECE = 16  # files that a worker takes at a time
BLOCK = 2048  # runs that are looked at together


@dataclass(frozen=True)
class Masks:
    """How often a run hides optional telemetry. It is drawn per run, so one policy serves every caller."""

    validation: float  # share of runs that hide the validation loss
    epochs: float  # share of runs that hide the length of an epoch, and the number of examples


@dataclass(frozen=True)
class Store:
    """N rows of R runs of the tasks of a collection, in the order of its files. The arrays may be mapped files."""

    decisions: np.ndarray  # (N, len(DECISION)) float32; 0 in a run's last row
    actions: np.ndarray  # (N,) float32 in [-1, 1]; 0 in a run's last row
    rewards: np.ndarray  # (N,) float32; 0 in a run's last row
    constants: np.ndarray  # (R, len(RUN)) float32
    starts: np.ndarray  # (R + 1,) int64: a run's first row; last, N
    tasks: np.ndarray  # (files,) int64: number of runs

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Map read only what `build` wrote."""
        # Plain arrays on top of the maps: indexing np.memmap itself costs more.
        return cls(*(np.asarray(np.load(_file(folder, f.name), mmap_mode="r")) for f in fields(cls)))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    def runs_of(self, tasks: np.ndarray) -> np.ndarray:
        """Runs (n,) of `tasks` (k,), one task after another."""
        bounds = np.append(0, np.cumsum(self.tasks)).tolist()
        return np.concatenate([np.arange(bounds[task], bounds[task + 1]) for task in tasks.tolist()])

    def scatter(self) -> None:
        """Make the system read only the page of a decision from now on.

        By default it also reads megabytes of neighbours, which is useless if the store is larger than the free memory.
        """
        mapped = getattr(self.decisions.base, "base", None)  # of the np.memmap that the array is a view of
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_RANDOM)

    def masked(self, masks: Masks, seed: int) -> View:
        """The store with what its runs hide drawn from `seed`."""
        rng, variants = np.random.default_rng(seed), []
        for runs in self.tasks.tolist():
            hidden = rng.random(runs) < masks.validation
            period = rng.choice(len(PERIODS), runs)
            withheld = np.where(rng.random(runs) < masks.epochs, 2, rng.random(runs) < EPOCHS_ALONE)
            variants.append(len(WITHHELD) * np.where(hidden, HIDDEN, period) + withheld)
        return View(self, np.concatenate(variants).astype(np.int8), _columns())


def _columns() -> np.ndarray:
    """(variants, F): the place of every feature in LAYOUT.

    A variant is len(WITHHELD) * period + the index of what it hides in WITHHELD.
    """

    def place(name: str, period: int, withheld: int) -> int:
        if name in VALIDATION:
            return NOTHING if period == HIDDEN else LAYOUT.index((name, period))
        return NOTHING if name in WITHHELD[withheld] else LAYOUT.index((name, 0))

    variants = ((period, withheld) for period in range(HIDDEN + 1) for withheld in range(len(WITHHELD)))
    return np.array([[place(name, *variant) for name in NAMES] for variant in variants])


@dataclass(frozen=True)
class View:
    """A store as one agent observes it: features that a run hides are 0."""

    store: Store
    variants: np.ndarray  # (R,) rows of `columns`
    columns: np.ndarray  # (variants, F) places in LAYOUT

    def observations(self, rows: np.ndarray, runs: np.ndarray) -> np.ndarray:
        """(n, F) float32 of the decisions `rows` (n,), which belong to `runs` (n,)."""
        stored = np.concatenate([self.store.decisions[rows], self.store.constants[runs]], axis=1)
        return np.take_along_axis(stored, self.columns[self.variants[runs]], axis=1)

    def resampled(self, seed: int) -> np.ndarray:
        """Runs (n,) of a bootstrap sample of the tasks: as many as there are, drawn with repetition from `seed`."""
        count = len(self.store.tasks)
        return self.store.runs_of(np.random.default_rng([seed, 1]).integers(count, size=count))

    def limited(self, groups: Iterable[str]) -> View:
        """The view of an agent that observes only these groups of features."""
        return replace(self, columns=np.where(mask(groups) == 1, self.columns, NOTHING))

    def rows_of(self, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (n,) of all decisions of `runs`, one run after another, and the run (n,) of each."""
        first, length = self.store.starts[runs], self.store.starts[runs + 1] - self.store.starts[runs] - 1
        of = np.repeat(runs, length)
        return np.arange(len(of)) + np.repeat(first - np.cumsum(length) + length, length), of

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (F,) float64 of all observations, in one pass over the store.

        Blocks are merged as in Chan, Golub & LeVeque 1979, which avoids cancellation.
        """
        count, mean, squares = 0, np.zeros(len(NAMES)), np.zeros(len(NAMES))
        for first in range(0, len(self.variants), BLOCK):
            block = self.observations(*self.rows_of(np.arange(first, min(first + BLOCK, len(self.variants)))))
            own = block.mean(axis=0, dtype=np.float64)
            total, gap = count + len(block), own - mean
            squares += np.sum((block - own) ** 2, axis=0) + gap**2 * count * len(block) / total
            mean += gap * len(block) / total
            count = total
        return mean, np.sqrt(squares / count)


Imap = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]  # `map`, in any order and any process


def build(
    paths: Sequence[Path],
    reward: Reward,
    folder: Path,
    imap: Imap = map,
    equation: ActionEquation = ActionEquation(),  # noqa: B008 (frozen)
    *,
    inferred: Inferred | None = None,
) -> set[str]:
    """Write the store of the given files below `folder`; returns the kinds of optimizers in it.

    With `inferred`, the store holds departures instead of whole runs: those of twins, and so many inferred ones. It
    needs memory only for the runs' rows. Raises TrajectoryError for a damaged file, OSError for want of disk space.
    """
    rows = np.cumsum([0, *(_rows(path, equation, inferred) for path in paths)])
    if not rows[-1]:
        raise trajectories.TrajectoryError(
            f"{paths[0].parent}: no run is a twin; collect.branches.share must be above 0"
        )
    size = int(rows[-1]) * 4 * (len(DECISION) + 2)
    if size > (free := shutil.disk_usage(folder).free):
        raise OSError(f"{folder}: a store of {len(paths)} files needs {size} bytes, {free} are free; make room")
    for name, shape in (("decisions", (rows[-1], len(DECISION))), ("actions", rows[-1:]), ("rewards", rows[-1:])):
        np.lib.format.open_memmap(_file(folder, name), "w+", np.float32, tuple(map(int, shape)))
    jobs = [(i, paths[i : i + PIECE], int(rows[i])) for i in range(0, len(paths), PIECE)]
    made_of = _arrays if inferred is None else partial(_departing, inferred=inferred)
    add = partial(_add, made_of=partial(made_of, reward=reward, equation=equation), folder=folder)
    tasks = [t for _, part in sorted(imap(add, jobs)) for t in part]
    lengths = np.concatenate([lengths for lengths, _, _ in tasks])
    np.save(_file(folder, "starts"), np.append(0, np.cumsum(lengths)))
    np.save(_file(folder, "constants"), np.concatenate([constants for _, constants, _ in tasks]))
    np.save(_file(folder, "tasks"), np.array([len(lengths) for lengths, _, _ in tasks]))
    return {optimizer for _, _, optimizer in tasks}


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _rows(path: Path, equation: ActionEquation, inferred: Inferred | None) -> int:
    """Rows that a file takes in a store: those of its own, from its footer, or two for each departure."""
    if inferred is not None:
        return 2 * departures.count(TaskRecording(trajectories.read(path)), equation, inferred)
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):
        return len(trajectories.read(path))  # which says what is wrong with it


def _add(
    job: tuple[int, Sequence[Path], int], made_of: Callable[[TaskRecording], Iterator[np.ndarray]], folder: Path
) -> tuple[int, list[tuple[np.ndarray, np.ndarray, str]]]:
    """Fill in the rows of some files, starting at a given row. Returns lengths (runs,), `constants` and optimizer of
    each.
    """
    i, paths, row = job
    arrays = [np.load(_file(folder, name), mmap_mode="r+") for name in ("decisions", "actions", "rewards")]
    out = []
    for path in paths:
        task = TaskRecording(trajectories.read(path))
        lengths, *columns, constants = made_of(task)
        for array, values in zip(arrays, columns, strict=True):
            array[row : row + len(values)] = values
        row += int(lengths.sum())
        out.append((lengths, constants, task.optimizer))
    return i, out


def _arrays(task: TaskRecording, reward: Reward, equation: ActionEquation) -> Iterator[np.ndarray]:
    """Lengths (runs,) in rows, and a task's share of a store's `decisions`, `actions`, `rewards` and `constants`."""
    made = _made(task)
    within = np.arange(task.length) < task.ends[:, None]  # (runs, D + 1)
    rows = np.arange(task.length) <= task.ends[:, None]
    gains = mdp.rewards(task.column("val_loss"), task.ends, task.diverged, task.baseline_loss, reward)
    yield task.ends + 1
    for values in (made[:, :, PERIOD, FEATURE], _actions(task, equation).T, gains.T):
        padded = np.zeros((*rows.shape, *values.shape[2:]), np.float32)
        padded[:, :-1] = values
        padded[~within] = 0
        yield padded[rows]
    yield _constants(made)


def _departing(
    task: TaskRecording, reward: Reward, equation: ActionEquation, inferred: Inferred
) -> Iterator[np.ndarray]:
    """The same for its departures. Each is a run of one decision, with an end."""
    these = departures.departures(task, reward, equation, inferred)
    made = _made(task)
    observed = made[these.runs, these.decisions]
    yield np.full(len(these.runs), 2)
    for values in (observed[:, PERIOD, FEATURE], these.actions, these.returns):
        padded = np.zeros((2 * len(values), *values.shape[1:]), np.float32)
        padded[::2] = values
        yield padded
    yield _constants(made)[these.runs]


def _made(task: TaskRecording) -> np.ndarray:
    """(runs, D, periods, F) observations of a task, for each period of decisions between two validations."""
    show_val = np.arange(task.length)[:, None] % np.repeat(PERIODS, task.runs) == 0
    made = observations(task, show_val)  # (D, periods * runs, F)
    return made.reshape(len(made), len(PERIODS), task.runs, len(NAMES)).transpose(2, 0, 1, 3)


def _constants(made: np.ndarray) -> np.ndarray:
    """(runs, len(RUN)) constant features of observations that `_made` returned."""
    constants = np.zeros((len(made), len(RUN)), np.float32)
    constants[:, :-1] = made[:, 0, 0, [NAMES.index(n) for n in CONSTANT]]
    return constants


def _actions(task: TaskRecording, equation: ActionEquation) -> np.ndarray:
    """(D, runs) actions that lead to the recorded levels, whatever action equation the recording had."""
    levels, anchor = task.column("level")[:-1], task.column("anchor")[0]
    first = equation.invert(anchor, anchor, levels[0], True)
    return np.stack([first, *(equation.invert(levels[d - 1], anchor, levels[d], False) for d in range(1, len(levels)))])
