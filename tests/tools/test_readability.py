"""How easily a page reads is measured on its prose alone."""

import pytest

from tools.readability import LEAST_EASE, MOST_WORDS, complaint, measure, sentences

FINE = (MOST_WORDS - 5, LEAST_EASE + 5)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One thought. Another one!\nIs it?", ["One thought", "Another one", "Is it"]),
        ("The rate is 0.5, i.e. half of `PilotLR(optimizer, epochs=20)`.", ["The rate is 0.5 i.e half of Code"]),
        ("It reads `log=`. `probe=False` leaves it out.", ["It reads Code", "Code leaves it out"]),
        ("- an item\n- another\n", ["an item", "another"]),
        ("# A title\n\nA [link](https://example.org/a.b) to it.\n", ["A link to it"]),
        ("Before.\n\n| a | b |\n|---|---|\n| c | d |\n\n```python\ncode = 1\n```\nAfter.", ["Before", "After"]),
        ("Mine.\n\n<!-- results -->\nWritten by a command.\n<!-- /results -->\n\nMine.", ["Mine", "Mine"]),
        ("![A picture](a.png)", []),
    ],
)
def test_prose_is_what_counts(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


@pytest.mark.parametrize(
    ("text", "words", "ease"),
    [
        ("The cat sat on the mat. The dog ran.", 4.5, 206.835 - 1.015 * 4.5 - 84.6),
        ("A policy chooses. Zqxj decided.", 2.5, 206.835 - 1.015 * 2.5 - 84.6 * (1 + 3 + 2 + 3) / 4),
    ],
)
def test_figures_worked_out_by_hand(text: str, words: float, ease: float) -> None:
    assert measure(text) == (words, round(ease))


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
def test_a_page_is_wrong_beyond_a_limit_or_far_from_its_written_figures(now, written, wanted) -> None:
    assert wanted in complaint(now, written) and bool(wanted) == bool(complaint(now, written))
