"""Find models on a hub: ModelScope or Hugging Face. Plain HTTP in this process, no client's package."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

HubName = Literal["modelscope", "huggingface"]
#: Families that a search can be narrowed to; "" is any.
FAMILIES = ("", "Qwen2", "Qwen2.5", "Qwen3")
SORTS = ("downloads", "likes", "updated")


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
    """The models of `hub` that `text` finds, at most `limit`; 10 s at most, and it can be cancelled.

    family: one of FAMILIES. sort: one of SORTS. token: for private models.
    Endpoint: MODELSCOPE_ENDPOINT (or MODELSCOPE_DOMAIN), HF_ENDPOINT. Raises ModelError: offline, refused, nonsense.
    """
    raise NotImplementedError
