"""The code of a worker process, whichever engine started it."""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any

from pipeline.engines.outcomes import Failure

# The processes are the parallelism; threads on top of them only contend. Set before a process starts, since the
# libraries read it when they load.
ONE_THREAD: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>


def settle() -> None:
    """Make this process a worker: one thread, and an allocator that keeps its memory."""
    os.environ.update(ONE_THREAD)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    _keep_memory()


def _keep_memory() -> None:
    """Make glibc reuse freed memory. By default it maps big tensors again each time, and a training step waits for page
    faults.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # elsewhere there is nothing to set
        if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
            mallopt(M_MMAP_THRESHOLD, 32 << 20)  # an older glibc takes no more
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 64 << 20)


def attempt(work: bytes, dumps: Callable[[Any], bytes]) -> bytes:
    """Call the pickled (function, item). Returns pickled (result, None), or (None, failure) if anything here fails."""
    try:
        fn, item = pickle.loads(work)
        return dumps((fn(item), None))
    except BaseException as error:  # SystemExit, too: the process serves other items
        return dumps((None, raised(error)))


def raised(error: BaseException) -> Failure:
    """The failure for an error, with its traceback as a note. An error that cannot be pickled is replaced by
    its text.
    """
    message = f"{type(error).__name__}: {' '.join(str(error).split())}"
    note = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(message)
    error.add_note(note)
    return Failure("raised", message, error)
