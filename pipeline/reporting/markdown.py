"""Markdown that commands write: tables, and the parts of pages between the marks <!-- name --> and <!-- /name -->."""

from collections.abc import Iterable, Sequence

RULES = {"l": "---", "r": "---:"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str | None = None) -> str:
    """A table, without a newline at its end.

    `align` has a letter for each column, l(eft) or r(ight). Without it, the first column is left and all others are
    right. Raises ValueError if a row or `align` has more or fewer columns than the header.
    """
    sides = "l" + "r" * (len(header) - 1) if align is None else align
    lines = [header, [RULES[side] for side in sides], *rows]
    for line in lines:
        if len(line) != len(header):
            raise ValueError(f"{line}: {len(line)} columns, want {len(header)}, as in {header}")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fill(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of `name`. Raises ValueError unless both marks occur once, in order."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, opened, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (opened and closed) or start in after or end in after:
        raise ValueError(f"want {start} and, later, {end} exactly once; put them where the generated part belongs")
    return f"{before}{start}\n{content}\n{end}{after}"
