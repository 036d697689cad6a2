"""A model's card: its README.md as Markdown, from the hub or from the folder. Others' words: bounded and harmless."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.logs.plain_text import harmless
from qwen_tui.models.hub import hub_named, is_hub_id
from qwen_tui.models.hub_search import HubName
from qwen_tui.models.hub_search_http import Asking

#: Bytes of a card that are kept, and characters of one line.
_MOST, _LONGEST_LINE = 400_000, 4_000
_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_ENTRY = re.compile(r"([A-Za-z_][\w-]*):[ \t]+([^\s\[{&*!|>].*)")
_FENCED = re.compile(r"(^ {0,3}```.*?(?:^ {0,3}```[ \t]*$|\Z))", re.DOTALL | re.MULTILINE)
#: HTML that only arranges: taken out, its text stays. Anything else in angle brackets is text, as in <think>.
_TAG = re.compile(
    r"</?(?:a|b|br|center|code|details|div|em|font|h[1-6]|hr|i|img|li|ol|p|picture|source|span|strong|sub|summary|sup"
    r"|table|tbody|td|th|thead|tr|u|ul|video|style|small)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Card:
    """text: Markdown without the front matter, without control characters. fields: the front matter's plain entries
    (license, pipeline_tag, …). is_cut: whether the rest of a very long card was left out."""

    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False


def parse_card(data: bytes, *, is_cut: bool = False) -> Card:
    """A card from the file's bytes; never raises."""
    is_cut |= len(data) > _MOST
    text = data[:_MOST].decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT.match(text)
    fields: dict[str, str] = {}
    if front:
        text = text[front.end() :]
        for line in front[1].split("\n")[:500]:
            entry = _ENTRY.fullmatch(_harmless(line).rstrip())
            if entry and len(fields) < 50:
                fields[entry[1]] = entry[2].strip().strip("\"'")[:200]
    return Card("\n".join(_lines(text)).strip("\n"), fields, is_cut)


def _lines(text: str) -> list[str]:
    """The lines without control characters; outside of code without the HTML that only arranges."""
    parts = _FENCED.split(text)
    for number in range(0, len(parts), 2):  # the others are code
        parts[number] = _TAG.sub("", _COMMENT.sub("", parts[number]))
    return [_harmless(line) for line in "".join(parts).split("\n")]


def _harmless(line: str) -> str:
    """One line of others' text; a very long one is cut."""
    return harmless(line[:_LONGEST_LINE])


def local_card(path: Path) -> Card | None:
    """The card in a model's folder (beside a .gguf file); None without one. Blocking."""
    folder = path if path.is_dir() else path.parent
    for name in ("README.md", "readme.md", "README"):
        file = folder / name
        try:
            if file.is_file():
                with file.open("rb") as stream:
                    return parse_card(stream.read(_MOST + 1))
        except OSError:
            continue
    return None


async def hub_card(model: str, hub: HubName = "modelscope", *, revision: str = "", token: str = "") -> Card:
    """The card of a hub's model; 10 s at most. Raises ModelError.

    ModelScope: GET /api/v1/models/ID/repo?Revision=&FilePath=README.md (modelscope_hub, _legacy_api.py get_file_url).
    Hugging Face: GET /ID/resolve/REVISION/README.md (huggingface_hub, HUGGINGFACE_CO_URL_TEMPLATE).
    """
    facts = hub_named(hub)
    if not is_hub_id(model):
        raise ModelError(
            _("“{model}” is not a hub id").format(model=model), "", _("It reads owner/name: qwen/Qwen2-7B-Instruct")
        )
    branch = revision or facts.revision
    if facts.key == "modelscope":
        url = f"{facts.endpoint()}/api/v1/models/{model}/repo"
        query = [("Revision", branch), ("FilePath", "README.md")]
    else:
        url, query = f"{facts.endpoint()}/{model}/resolve/{quote(branch, safe='')}/README.md", []
    missing = _("{hub} has no card of {model}").format(hub=facts.host(), model=model)
    async with Asking(facts, token) as asking:
        answer = await asking.get(url, query, _MOST, missing)
    return await asyncio.to_thread(parse_card, answer.text, is_cut=answer.is_cut)
