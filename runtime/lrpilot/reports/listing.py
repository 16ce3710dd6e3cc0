"""How a history and a scheduler are shown: text for a terminal, HTML for a notebook.

The HTML names no colour: it takes those of the page, light or dark. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple, Protocol

from lrpilot.reports.explain import is_alarm
from lrpilot.text import counted

LATEST = 11  # decisions at the end, all of which are listed


class Decision(Protocol):
    """What a table shows of a `lrpilot.reports.history.Decision`."""

    @property
    def step(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def level(self) -> float: ...
    @property
    def event(self) -> str | None: ...


class Row(NamedTuple):
    """What a table shows in one line: a decision, or where `step` is "..." some that are left out."""

    step: str
    lr: str
    level: str
    event: str


def text(decisions: Sequence[Decision]) -> str:
    """A table of the first decision, those with a guard event, and the latest."""
    lines = [_title(decisions)]
    if decisions:
        lines += [f"{r.step:>9} {r.lr:>9} {r.level:>6}  {r.event}".rstrip() for r in (HEAD, *_rows(decisions))]
    return "\n".join(lines)


def html(decisions: Sequence[Decision]) -> str:
    """The same as an HTML table. Guard events are bold."""
    if not decisions:
        return f"<div>{_title(decisions)}</div>"
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    rows = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in _rows(decisions))
    return f"<table><caption>{_title(decisions)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def bullets(title: str, sentences: Iterable[str]) -> str:
    """A title and sentences as an HTML list."""
    return f"<div>{escape(title)}<ul>{''.join(f'<li>{escape(each)}</li>' for each in sentences)}</ul></div>"


HEAD = Row("step", "lr", "level", "event")


def _title(decisions: Sequence[Decision]) -> str:
    events = sum(is_alarm(decision.event) for decision in decisions)
    return f"{counted(str(len(decisions)), 'decision')}, {events} with a guard event"


def _rows(decisions: Sequence[Decision]) -> Iterator[Row]:
    listed = _listed([decision.event for decision in decisions])
    for at, after in pairwise([*listed, len(decisions)]):
        d = decisions[at]
        yield Row(str(d.step), f"{d.lr:.2e}", f"{d.level:+.2f}", d.event or "")
        if (left_out := after - at - 1) > 0:
            event = decisions[at + 1].event  # they have none, or are of one run
            yield Row("...", "", "", f"{left_out} more of {event}" if is_alarm(event) else "")


def _listed(events: Sequence[str | None]) -> list[int]:
    """Places of the decisions to show. Of the same guard event at one decision after the other, the ends are shown."""
    last = len(events) - 1

    def goes_on(at: int) -> bool:
        return 0 < at < last and events[at - 1] == events[at] == events[at + 1]

    shown = {
        at for at, event in enumerate(events)
        if at == 0 or at > last - LATEST or (is_alarm(event) and not goes_on(at))
    }  # fmt: skip
    # Where one decision alone would be left out, dots would take its line.
    return [at for at in range(last + 1) if at in shown or (at - 1 in shown and at + 1 in shown)]


def _cells(row: Row) -> Iterator[str]:
    for name, value in row._asdict().items():
        alarm = name == "event" and is_alarm(value or None) and row.step != "..."
        yield f"<td>{'<strong>' if alarm else ''}{escape(value)}{'</strong>' if alarm else ''}</td>"
