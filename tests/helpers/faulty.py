"""A collection with families that fail, in a process of its own: `python -m faulty --root ROOT`.

Workers import the main module of the process that starts them, so they know these families, too.
"""

import os
import signal
import time

import numpy as np

from pipeline import collect
from pipeline.workloads.base import Family, Workload
from pipeline.workloads.recorded.families import FAMILIES


def raises(rng: np.random.Generator) -> Workload:
    raise OSError("no such data set:\ncifar")


def hangs(rng: np.random.Generator) -> Workload:
    while True:
        time.sleep(1)


def dies(rng: np.random.Generator) -> Workload:
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out
    raise AssertionError


for sample in (raises, hangs, dies):
    sample.__module__ = Family.__module__  # of a recording's key: code of the repository
    FAMILIES[sample.__name__] = Family(sample.__name__, "train", sample, "ordinary")

if __name__ == "__main__":
    collect.main()
