"""Parts of Markdown pages that commands write, between marks: <!-- name --> and <!-- /name -->."""


def fill(text: str, name: str, content: str) -> str:
    """`text` with `content` between the marks of `name`. Raises ValueError unless both stand there once, in order."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed) or start in after or end in after:
        raise ValueError(f"want {start} and, later, {end} exactly once; put them where the generated part belongs")
    return f"{before}{start}\n{content}\n{end}{after}"
