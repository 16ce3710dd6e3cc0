"""Text that comes with Python: the sources of its standard library, the prose of its built-in help, and the sources of
three packages.

Characters for language models, words for classification. The text is that of the interpreter and of the packages in
use, so tasks differ slightly between versions. A family with texts of Python has `PYTHON` among its packages.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import sysconfig
import zlib
from pathlib import Path

import numpy as np

# Large modules that every supported Python has; tests of the library and generated tables are left out.
# fmt: off
MODULES = (
    "argparse", "ast", "asyncio/base_events", "calendar", "collections/__init__", "configparser", "copy",
    "csv", "datetime", "decimal", "dis", "doctest", "difflib", "email/message", "enum", "fractions",
    "ftplib", "functools", "heapq", "http/client", "imaplib", "inspect", "ipaddress", "json/encoder",
    "logging/__init__", "mailbox", "nntplib", "optparse", "pathlib", "pdb", "pickle", "platform", "plistlib",
    "random", "shutil", "smtplib", "socket", "statistics", "string", "subprocess", "tarfile", "tempfile",
    "textwrap", "threading", "turtle", "typing", "unittest/mock", "urllib/request", "uuid", "zipfile",
)
# fmt: on
TOPICS = (  # of `help()`, large ones that every supported Python has
    "assignment",
    "attribute-access",
    "calls",
    "comparisons",
    "compound",
    "customization",
    "debugger",
    "execmodel",
    "formatstrings",
    "function",
    "import",
    "naming",
    "specialnames",
    "string-methods",
    "strings",
    "try",
    "types",
    "typesmapping",
    "typesseq",
)  # fmt: skip
PACKAGES = (  # files of installed packages, large ones that many of their versions have
    "numpy/ma/core", "numpy/lib/_function_base_impl", "numpy/linalg/_linalg", "numpy/f2py/crackfortran",
    "numpy/_core/fromnumeric", "numpy/polynomial/chebyshev", "scipy/stats/_multivariate", "scipy/signal/_filter_design",
    "scipy/cluster/hierarchy", "scipy/optimize/_optimize", "scipy/stats/_morestats", "scipy/ndimage/_morphology",
    "sklearn/metrics/_classification", "sklearn/preprocessing/_data", "sklearn/ensemble/_forest",
    "sklearn/model_selection/_split", "sklearn/linear_model/_ridge", "sklearn/gaussian_process/kernels",
    "sklearn/cluster/_kmeans", "sklearn/decomposition/_nmf",
)  # fmt: skip
ALPHABET = "\n abcdefghijklmnopqrstuvwxyz0'#(),.:=[]_-+*/<>{}"  # one digit stands for all
OTHER = len(ALPHABET)  # the code of every other character
N_CHARACTERS = len(ALPHABET) + 1
PYTHON = ("python",)


@functools.cache
def available() -> tuple[str, ...]:
    """The modules of `MODULES` that this Python has as one source file."""
    root = Path(sysconfig.get_path("stdlib"))
    names = tuple(name for name in MODULES if (root / f"{name}.py").is_file())
    if len(names) < 24:
        raise FileNotFoundError(f"{root}: {len(names)} of {len(MODULES)} library sources found, need 24: install them")
    return names


def source(name: str) -> str:
    """The text of a module named as in `MODULES`, a topic as in `TOPICS` or a package's file as in `PACKAGES`."""
    if name in TOPICS:
        from pydoc_data.topics import topics

        return topics[name]
    if name in PACKAGES:
        package, _, file = name.partition("/")
        return importlib.resources.files(package).joinpath(f"{file}.py").read_text(encoding="utf-8")
    return (Path(sysconfig.get_path("stdlib")) / f"{name}.py").read_text(encoding="utf-8")


@functools.cache
def characters(name: str) -> np.ndarray:
    """Codes (n,) int64 in 0..N_CHARACTERS-1: lower case, digits merged, blanks collapsed."""
    text = re.sub(r"\d", "0", source(name).lower())
    text = re.sub(r"\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text))
    code = {character: i for i, character in enumerate(ALPHABET)}
    codes = np.array([code.get(character, OTHER) for character in text], dtype=np.int64)
    codes.setflags(write=False)
    return codes


@functools.cache
def words(name: str, buckets: int) -> np.ndarray:
    """Hashed words (n,) int64 in 0..buckets-1 of the text, in order (CRC-32, the same in every process)."""
    runs = re.findall(r"[A-Za-z_]{2,}", source(name))
    codes = np.array([zlib.crc32(word.encode()) % buckets for word in runs], dtype=np.int64)
    codes.setflags(write=False)
    return codes


def windows(codes: np.ndarray, length: int) -> np.ndarray:
    """Distinct consecutive windows (n, length); they do not overlap, so splits of them share no text."""
    n = len(codes) // length
    return np.unique(codes[: n * length].reshape(n, length), axis=0)
