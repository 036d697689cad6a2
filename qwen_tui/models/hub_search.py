"""Find models on a hub: ModelScope or Hugging Face. Plain HTTP in this process, no client's package.

    ModelScope    GET /openapi/v1/models?search=&sort=&page_number=&page_size=   (at most 50 a page)
                  {"success", "data": {"models": [{"id", "downloads", "likes", "license", "tasks": [], "tags": [],
                  "last_modified": "2026-05-15T01:09:19Z", "file_size", "private", "gated"}], "total_count"}}
    Hugging Face  GET /api/models?search=&sort=&direction=-1&limit=&expand=…
                  [{"id", "downloads", "likes", "lastModified", "pipeline_tag", "tags": ["license:…"],
                  "safetensors": {"total"}, "gguf": {"total"}, "usedStorage", "gated"}], next page in the Link header

Sources: modelscope_hub 0.5.1 (_openapi.py list_models, types.py RepoInfo); huggingface_hub (hf_api.py list_models,
ExpandModelProperty_T, ModelInfo).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Literal

from qwen_tui.models.hub import Hub, hub_named
from qwen_tui.models.hub_search_http import Asking, nonsense
from qwen_tui.models.local_reading import plain

HubName = Literal["modelscope", "huggingface"]
#: Families that a search can be narrowed to; "" is any.
FAMILIES = ("", "Qwen2", "Qwen2.5", "Qwen3")
SORTS = ("downloads", "likes", "updated")
_PAGE = 50
#: Pages that are looked through for a family's models among others.
_PAGES = 4
_EXPAND = ("downloads", "likes", "lastModified", "pipeline_tag", "tags", "safetensors", "gguf", "usedStorage", "gated")


@dataclass(frozen=True)
class HubModel:
    """A model on a hub; None or empty where the hub does not say. All texts are harmless to print.

    updated: Unix time. size: bytes of the repository. parameters: how many. licence: such as "apache-2.0".
    task: such as "text-generation". is_gated: whether its owner must let one in first.
    """

    id: str
    hub: HubName
    downloads: int | None = None
    likes: int | None = None
    updated: float | None = None
    licence: str = ""
    task: str = ""
    size: int | None = None
    parameters: int | None = None
    is_gated: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


async def search_hub(
    text: str,
    hub: HubName = "modelscope",
    *,
    family: str = "",
    sort: str = "downloads",
    limit: int = 50,
    token: str = "",
) -> list[HubModel]:
    """The models of `hub` that `text` finds, at most `limit`; 10 s a page at most, and it can be cancelled.

    family: one of FAMILIES (or any name of that kind). sort: one of SORTS. token: for private models.
    The address is `Hub.endpoint()`. Raises ModelError: offline, refused, nonsense.
    """
    facts = hub_named(hub)
    words = text.split()
    if family and family.casefold() not in text.casefold():
        words.insert(0, family)
    async with Asking(facts, token) as asking:
        found = await _search(asking, facts, " ".join(words), family, (), sort, limit)
        if not found and len(words) > 1:
            # Not every hub takes several words: the first finds, the others choose.
            found = await _search(asking, facts, words[0], family, words[1:], sort, limit)
    return found


def is_of_family(name: str, family: str) -> bool:
    """Whether a model's name belongs to a family: "Qwen2-7B" to "Qwen2", but "Qwen2.5-7B" does not."""
    return not family or bool(re.search(re.escape(family) + r"(?![.\d])", name.replace("___", "."), re.IGNORECASE))


async def _search(
    asking: Asking, hub: Hub, text: str, family: str, words: Sequence[str], sort: str, limit: int
) -> list[HubModel]:
    found: dict[str, HubModel] = {}
    url, query = _question(hub, text, sort, 1)
    for page in range(1, _PAGES + 1):
        answer = await asking.get(url, query)
        entries = _entries(hub, answer.json(hub))
        for model in map(_READERS[hub.key], entries):
            wanted = model is not None and all(word.casefold() in model.id.casefold() for word in words)
            if model is not None and wanted and is_of_family(model.id, family):
                found.setdefault(model.id, model)
        if len(found) >= limit or len(entries) < _PAGE:
            break
        if hub.key == "modelscope":
            url, query = _question(hub, text, sort, page + 1)
        elif answer.next_url:
            url, query = answer.next_url, []
        else:
            break
    return list(found.values())[:limit]


def _question(hub: Hub, text: str, sort: str, page: int) -> tuple[str, list[tuple[str, str]]]:
    """The address and the query of one page."""
    if hub.key == "modelscope":
        key = {"updated": "last_modified"}.get(sort, sort)
        pages = [("page_number", str(page)), ("page_size", str(_PAGE))]
        return f"{hub.endpoint()}/openapi/v1/models", [("search", text), ("sort", key), *pages]
    key = {"updated": "lastModified"}.get(sort, sort)
    query = [("search", text), ("sort", key), ("direction", "-1"), ("limit", str(_PAGE))]
    return f"{hub.endpoint()}/api/models", [*query, *(("expand", name) for name in _EXPAND)]


def _entries(hub: Hub, data: Any) -> list[Mapping[str, Any]]:
    """The list of models in an answer. Raises ModelError."""
    if isinstance(data, dict):
        inner = data.get("data", data.get("Data", data))
        data = inner.get("models", inner.get("Models")) if isinstance(inner, dict) else inner
    if not isinstance(data, list):
        raise nonsense(hub)
    return [entry for entry in data if isinstance(entry, dict)]


def _from_modelscope(entry: Mapping[str, Any]) -> HubModel | None:
    name = _text(entry.get("id"))
    if "/" not in name:
        return None
    tasks = entry.get("tasks")
    return HubModel(
        name,
        "modelscope",
        _whole(entry.get("downloads")),
        _whole(entry.get("likes")),
        _time(entry.get("last_modified")),
        _text(entry.get("license")),
        _text(next(iter(tasks), "")) if isinstance(tasks, list) else "",
        _whole(entry.get("file_size")) or None,
        _whole(entry.get("params")) or None,
        bool(entry.get("gated")),
    )


def _from_huggingface(entry: Mapping[str, Any]) -> HubModel | None:
    name = _text(entry.get("id") or entry.get("modelId"))
    if not name:
        return None
    tags = entry.get("tags")
    licences = _after("license:", tags if isinstance(tags, list) else ())
    weights: Mapping[str, Any] = next(
        (entry[key] for key in ("safetensors", "gguf") if isinstance(entry.get(key), dict)), {}
    )
    return HubModel(
        name,
        "huggingface",
        _whole(entry.get("downloads")),
        _whole(entry.get("likes")),
        _time(entry.get("lastModified")),
        _text(next(iter(licences), "")),
        _text(entry.get("pipeline_tag")),
        _whole(entry.get("usedStorage")) or None,
        _whole(weights.get("total")) or None,
        bool(entry.get("gated")),
    )


_READERS = {"modelscope": _from_modelscope, "huggingface": _from_huggingface}


def _after(start: str, tags: Iterable[Any]) -> list[str]:
    return [tag.removeprefix(start) for tag in tags if isinstance(tag, str) and tag.startswith(start)]


def _text(value: Any) -> str:
    return plain(value) if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 2**62 else None


def _time(value: Any) -> float | None:
    """Unix time of "2026-05-15T01:09:19Z" (with or without fractions), or of a number of seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if 0 < value < 1e11 else None
    match = re.match(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)", value) if isinstance(value, str) else None
    try:
        moment = datetime.fromisoformat(f"{match[1]}T{match[2]}") if match else None
    except ValueError:
        return None
    return moment.replace(tzinfo=timezone.utc).timestamp() if moment else None
