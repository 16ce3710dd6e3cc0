"""Where the repository lies, and where processes of tests find its modules."""

import os
from pathlib import Path

TOP = Path(__file__).parents[2]
MODULES = os.pathsep.join(str(TOP / folder) for folder in (".", "runtime", "tests/helpers", "tests/trainings"))
