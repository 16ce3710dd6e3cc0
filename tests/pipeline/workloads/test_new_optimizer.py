"""How an optimizer is added: the row and the rule of CONTRIBUTING.md, in a copy of the packages."""

import re
import shutil
from pathlib import Path

import copies
from repository import TOP

GUIDE = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## An optimizer\n")[2].partition("\n## ")[0]
RULES = "pipeline/workloads/training/update_rules.py"


def test_its_steps_are_those_of_torch(tmp_path: Path) -> None:
    (row,) = re.findall(r"^row = (.*)$", GUIDE, re.MULTILINE)
    (rule,) = re.findall(r"^(def _adamax.*?)\n\n\n", GUIDE, re.MULTILINE | re.DOTALL)
    method = rule.replace("self: Stepper", "self").replace("torch.Tensor", "Tensor").replace("\n", "\n    ")
    top = copies.with_lines(
        tmp_path,
        (
            ("runtime/lrpilot/decisions/optimizer_kinds.py", '    OptimizerKind("adagrad", ', f"    {row},"),
            (RULES, "        s.first.lerp_(g, 1 - self._betas[1])", f"\n    {method}"),
            (RULES, "_RULES: ", '    "adamax": Stepper._adamax,'),
        ),
    )
    shutil.copy(TOP / "tests/pipeline/workloads/test_any_module.py", top)
    said = copies.run(top, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "adamax", "test_any_module.py")
    assert "2 passed" in said  # without weight decay and with it
