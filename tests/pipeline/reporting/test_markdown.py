"""Tables, and parts of pages between marks."""

import pytest

from pipeline.reporting import markdown, readme
from repository import TOP


@pytest.mark.parametrize(
    ("header", "rows", "align", "lines"),
    [
        (("a", "b"), [("x", "1")], None, ("| a | b |", "| --- | ---: |", "| x | 1 |")),
        (("a", "b", "c"), [("x", "y", "")], "llr", ("| a | b | c |", "| --- | --- | ---: |", "| x | y |  |")),
        (("a",), [], "r", ("| a |", "| ---: |")),
        (("", ""), [["x", "1"], ["y", "2"]], None, ("|  |  |", "| --- | ---: |", "| x | 1 |", "| y | 2 |")),
    ],
)
def test_a_table(header, rows, align, lines) -> None:
    assert markdown.table(header, rows, align) == "\n".join(lines)


@pytest.mark.parametrize(
    ("rows", "align"), [([("x",)], None), ([("x", "1", "2")], None), ([("x", "1")], "l"), ([("x", "1")], "lrr")]
)
def test_a_table_with_a_ragged_row_is_refused(rows, align) -> None:
    with pytest.raises(ValueError, match=r"columns, want 2, as in \('a', 'b'\)"):
        markdown.table(("a", "b"), rows, align)


def test_a_part_is_filled_between_its_marks() -> None:
    text = "top\n<!-- part -->\nold\n<!-- /part -->\nbottom\n"
    filled = markdown.fill(text, "part", "new")
    assert filled == "top\n<!-- part -->\nnew\n<!-- /part -->\nbottom\n"
    assert markdown.fill(filled, "part", "new") == filled


@pytest.mark.parametrize(
    "text", ["nothing", "<!-- part -->", "<!-- /part --><!-- part -->", 2 * "<!-- part --><!-- /part -->"]
)
def test_a_page_without_its_marks_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="exactly once"):
        markdown.fill(text, "part", "new")


def test_the_readme_has_the_marks() -> None:
    markdown.fill((TOP / readme.README).read_text(encoding="utf-8"), "results", "new")
