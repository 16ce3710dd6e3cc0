"""How easily a text reads is measured on its prose alone."""

from pathlib import Path

import pytest

from tools.readability import LEAST_EASE, MOST_WORDS, complaint, docstrings, measure, prose

FINE = (MOST_WORDS - 5, LEAST_EASE + 5)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One thought. Another one!\nIs it?", "One thought. Another one! Is it."),
        ("The rate is 0.5, half of `PilotLR(optimizer, epochs=20)`.", "The rate is 05, half of Code."),
        ("- an item\n- another\n", "an item. another."),
        ("# A title\n\nA [link](https://example.org/a.b) to it:\n", "A link to it."),
        ("Before.\n\n| a | b |\n|---|---|\n| c | d |\n\n```python\ncode = 1\n```\nAfter.", "Before. After."),
        ("Mine.\n\n<!-- results -->\nWritten by a command.\n<!-- /results -->\n\nMine.", "Mine. Mine."),
        ("Before.\n\n::: lrpilot.PilotLR\n    options:\n      members: [step]\n\nAfter.", "Before. After."),
        ("![A picture](a.png)", ""),
    ],
)
def test_prose_is_what_counts(text: str, wanted: str) -> None:
    assert prose(text) == wanted


def test_docstrings_are_those_of_modules_classes_and_functions(tmp_path: Path) -> None:
    code = """'Of a module.'

class A:
    '''Of a class.

    More.'''

    def f(self):
        'Of a method.'

def g():
    return "no docstring"
"""
    (tmp_path / "below").mkdir()
    (tmp_path / "below/a.py").write_text(code)
    assert prose(docstrings(tmp_path)) == "Of a module. Of a class. More. Of a method."


def test_figures_worked_out_by_hand() -> None:
    words, ease = measure("The cat sat on the mat. The dog ran.")
    assert (words, ease) == (4.5, round(206.835 - 1.015 * 4.5 - 84.6))


@pytest.mark.parametrize(
    ("now", "written", "wanted"),
    [
        (FINE, FINE, ""),
        (FINE, (FINE[0] + 0.9, FINE[1] - 3), ""),
        (FINE, (FINE[0] + 1.1, FINE[1]), "make readability"),
        (FINE, (FINE[0], FINE[1] + 5), "make readability"),
        (FINE, None, "make readability"),
        ((MOST_WORDS + 0.1, FINE[1]), (MOST_WORDS + 0.1, FINE[1]), "too hard"),
        ((FINE[0], LEAST_EASE - 1), (FINE[0], LEAST_EASE - 1), "too hard"),
    ],
)
def test_a_text_is_wrong_beyond_a_limit_or_far_from_its_written_figures(now, written, wanted) -> None:
    assert wanted in complaint(now, written) and bool(wanted) == bool(complaint(now, written))
