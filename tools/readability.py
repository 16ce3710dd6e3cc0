"""How easily texts read: words per sentence, and Flesch's reading ease (the higher, the easier), as textstat counts.

Texts are the pages, and of each package all docstrings together. `make readability` writes both figures for every text
into docs/readability.json. `make lint` prints them and fails where a text exceeds a limit or has left its written
figures. Code, tables, headings and what commands write do not count.
"""

import ast
import json
import re
import sys
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textstat.textstat import textstat

TOP = Path(__file__).parents[1]
FIGURES = TOP / "docs/readability.json"
PACKAGES = ("runtime/lrpilot", "policy", "pipeline", "benchmarks", "experiments", "tools")
MOST_WORDS, LEAST_EASE = 18.0, 65.0
SLACK = 1.0, 4.0  # of words and ease: so far a text may move before its figures are to be written anew
GENERATED = re.compile(r"<!-- (\w+) -->.*?<!-- /\1 -->|^:::[^\n]*(\n +[^\n]*)*", re.DOTALL | re.MULTILINE)
WITHIN = re.compile(r"(?<=\w)[.!?](?=\w)")  # a word, as in 0.5: no end of a sentence
PARSER = MarkdownIt().enable("table")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def prose(text: str) -> str:
    """A page's paragraphs and list items as whole sentences. A piece of code counts as one word."""
    tokens = PARSER.parse(GENERATED.sub("", text))
    inside = (token for before, token in pairwise(tokens) if before.type == "paragraph_open")
    parts = ("".join(map(_plain, token.children or ())).strip().rstrip(".!?:") for token in inside)
    return " ".join(f"{WITHIN.sub('', part)}." for part in parts if re.search(r"\w", part))


def _plain(token: Token) -> str:
    return {"text": token.content, "softbreak": " ", "hardbreak": " ", "code_inline": "Code"}.get(token.type, "")


def docstrings(package: Path) -> str:
    """All docstrings below a package."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py")))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, DOCUMENTED))
    return "\n\n".join(filter(None, map(ast.get_docstring, nodes)))


def measure(text: str) -> tuple[float, float]:
    """Words per sentence and reading ease of prose."""
    return round(textstat.words_per_sentence(text), 1), round(textstat.flesch_reading_ease(text))  # pyright: ignore


def complaint(now: tuple[float, float], written: tuple[float, float] | None) -> str:
    """What is wrong with a text of these figures; empty if nothing is."""
    if now[0] > MOST_WORDS or now[1] < LEAST_EASE:
        return f"too hard: at most {MOST_WORDS:g} words per sentence, a reading ease of at least {LEAST_EASE:g}"
    if written is None or any(abs(a - b) > slack for a, b, slack in zip(now, written, SLACK, strict=True)):
        return "run make readability, which writes the new figures"
    return ""


def main(argv: list[str]) -> int:
    pages = (TOP / "README.md", *sorted((TOP / "docs").rglob("*.md")))
    texts = {str(page.relative_to(TOP)): page.read_text(encoding="utf-8") for page in pages}
    texts |= {package: docstrings(TOP / package) for package in PACKAGES}
    measured = {name: measure(words) for name, text in texts.items() if (words := prose(text))}
    if argv == ["--write"]:
        rows = ",\n".join(f'  "{name}": {json.dumps(figures)}' for name, figures in measured.items())
        FIGURES.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
    written = json.loads(FIGURES.read_text(encoding="utf-8"))
    wrong = {name: complaint(figures, written.get(name)) for name, figures in measured.items()}
    wrong |= {name: "is gone: run make readability" for name in written.keys() - measured.keys()}
    print("words per sentence, reading ease, page or docstrings of a package")
    for name, (words, ease) in measured.items():
        print(f"{words:5.1f} {ease:4.0f}  {name}")
    for name, why in wrong.items():
        if why:
            print(f"{name}: {why}", file=sys.stderr)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
