"""What stands before the text of a line: prefixes of containers and collectors, the process, the logging record."""

from __future__ import annotations

import re
from typing import NamedTuple

# What containers, journals, log collectors and `ts` put before a line.
_STAMP = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"
_OUTER = re.compile(
    rf"(?:│ ?)?(?:(?:> )?(?:- )?(?:\[?{_STAMP}\]? +\| *[A-Z]+ *\| [\w.:<>]+ (?:\||-) ?"
    rf"|{_STAMP} - (?!vllm|uvicorn)[\w.]+ - (?:DEBUG|INFO|WARNING|ERROR) - "
    rf"|\[?{_STAMP}\]?(?: (?:std(?:out|err) [FP] )?| +(?=[A-Z(]))|\d{{9,11}}\.\d+ +"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ \S+: |[\w.-]+ +\| ?(?=\S| )"
    r"|\[[A-Za-z][\w .:-]{0,30}\]:? ?(?=\(|\[rank|Traceback|(?:INFO|WARNING|ERROR) )"
    r"|\[pod/[\w./-]+\] |\w[\w ]{0,20} STD(?:OUT|ERR): "
    r"|(?:INFO|ERROR|WARNING): +(?=\([A-Z]\w+ )|\[\d+,\d+\]<std\w+>: ?))*"
)
# Ray says once what several of its workers said.
_REPEATED = re.compile(r" \[repeated \d+x across cluster\].*$")
_PROCESS = re.compile(r"\((?P<process>[A-Za-z_][^()]{0,80}?pid=\d+[^()]{0,60})\) ?")
_RANK = re.compile(r"(?:\[[Rr]ank ?\d+\]: ?)+(?!\[)")
_RECORD = re.compile(
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL"
    r"|FATAL)\s+(?P<time>(?:\d{2,4}-)?\d\d-\d\d \d\d:\d\d(?::\d\d)?(?:[.,]\d+)?)\s+"
    r"(?:\[(?P<place>[^\]\s]+:\d+)\]|(?P<old_place>[\w./<>-]+:\d+)\])\s?"
)
_NAMED = re.compile(r"(?:- )?(?P<place>[\w.]+) - (?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) - ")
_UVICORN = re.compile(r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL):\s+")


class Split(NamedTuple):
    """One line taken apart; level is empty where it has none, place and time where it is no logging record."""

    process: str
    level: str
    place: str
    time: str
    body: str


def split(text: str) -> Split:
    """The prefixes of a line, and what is left."""
    position = 0
    text = _REPEATED.sub("", text)
    match = _OUTER.match(text)
    if match:
        position = match.end()
    process = ""
    while match := _PROCESS.match(text, position):  # a worker within an engine core has both in front
        process, position = match["process"], match.end()
    match = _RANK.match(text, position)
    if match:
        position = match.end()
    match = _RECORD.match(text, position)
    if match:
        return Split(process, match["level"], match["place"] or match["old_place"], match["time"], text[match.end() :])
    match = _NAMED.match(text, position)
    if match:
        return Split(process, match["level"], match["place"], text[: match.start()], text[match.end() :])
    match = _UVICORN.match(text, position)
    if match:
        return Split(process, match["level"], "", "", text[match.end() :])
    return Split(process, "", "", "", text[position:])
