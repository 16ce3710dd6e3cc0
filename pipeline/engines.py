"""Where independent pieces of work run: local processes, one thread each."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def imap_unordered(fn: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """`fn` of every item, in the order of completion; `workers` processes, 0 for one per core.

    An exception in a worker surfaces here with its type.
    """
    # loky replaces a worker whose memory grew; nothing is lost, and nobody can act on its warning.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    n = min(workers or cpu_count(), max(len(items), 1))
    yield from Parallel(n_jobs=n, return_as="generator_unordered", batch_size=1)(delayed(_single)(fn, i) for i in items)


def _single(fn: Callable[[Item], Result], item: Item) -> Result:
    import torch

    torch.set_num_threads(1)  # the processes are the parallelism; threads on top of them only contend
    return fn(item)


def progress(
    results: Iterator[Result], total: int, what: str, size: Callable[[Result], float], unit: str
) -> Iterator[Result]:
    """Pass `results` on and show done, rate and time left: a bar on a terminal, else a plain line now and then."""
    if sys.stderr.isatty():
        with tqdm(total=total, desc=what, unit=unit) as bar:
            for result in results:
                bar.update(size(result))
                yield result
        return
    start = shown = time.monotonic()
    done = 0.0
    for result in results:
        yield result
        done += size(result)
        now = time.monotonic()
        if now - shown > 15 or done >= total:
            rate, shown = done / max(now - start, 1e-9), now
            print(
                f"{what}: {done:.0f}/{total} {unit}, {rate:.1f} {unit}/s, {(total - done) / rate:.0f} s left",
                flush=True,
            )
