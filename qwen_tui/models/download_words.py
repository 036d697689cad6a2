"""What the codes of a download's process mean, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _
from qwen_tui.models.download_state import DownloadProblem, DownloadRequest
from qwen_tui.models.tokens import TokenNeeded
from qwen_tui.progress import format_bytes

_TOKEN_WORDS = r"\b40[13]\b|[Gg]ated|[Uu]nauthori[sz]ed|[Ff]orbidden|invalid user token|Authentication|PermissionDenied"
_MISSING_WORDS = r"\b404\b|[Nn]ot (exist|found)|NotExist|NotFound"
_NETWORK_WORDS = r"Network|Connect|Timeout|ServerError|Max retries|RateLimit|Proxy|SSL|RemoteProtocol|\b50\d\b"


def reason(code: str, detail: str) -> str:
    """Why nothing arrives: `code` and `detail` of hub_http.Trouble. Translated."""
    texts = {
        "silent": _("no bytes arrive"),
        "refused": _("the connection is refused"),
        "dns": _("the hub's name can't be resolved"),
        "unreachable": _("the hub can't be reached"),
        "cut": _("the connection is cut off again and again"),
        "tls": _("the secured connection fails"),
        "proxy": _("the proxy fails"),
        "protocol": _("the hub's answer makes no sense"),
        "listing": _("the hub does not list its files"),
        "busy": _("another program writes the same file"),
    }
    text = _("the hub answers {status}").format(status=detail) if code == "status" else texts.get(code, code)
    return f"{text} ({detail[:200]})" if detail and code != "status" else text


def problem(found: Mapping[str, Any], request: DownloadRequest) -> DownloadProblem:
    """Why a download failed. found: "code" and what belongs to it, as its process wrote them."""
    code = str(found.get("code", ""))
    name = str(found.get("name", ""))
    why = str(found.get("why", ""))
    if code == "listing":
        error = listing_error(str(found.get("title", "")), why, request)
        return DownloadProblem(error.title, error.why, error.hint)
    if code == "damaged":
        return DownloadProblem(
            _("{file} arrived damaged, again and again").format(file=name),
            _("Its hash is not the one that {hub} lists").format(hub=request.hub_facts.host(request.endpoint)),
            _("Resume it later, or from another hub; the files that are whole are kept"),
        )
    if code == "wrong_size":
        return DownloadProblem(
            _("{hub} sends {file} with another size than it lists").format(
                hub=request.hub_facts.host(request.endpoint), file=name
            ),
            _("It lists {listed} bytes").format(listed=f"{int(found.get('listed', 0)):,}"),
            _("Resume it later, or from another hub; the files that are whole are kept"),
        )
    return _of_the_hub(code, name, found, request) or _of_this_machine(code, why, found)


def _of_the_hub(code: str, name: str, found: Mapping[str, Any], request: DownloadRequest) -> DownloadProblem | None:
    host = request.hub_facts.host(request.endpoint)
    if code == "nothing":
        return DownloadProblem(
            _("There is nothing to download"),
            _("No file of {model} is left by what is included and excluded").format(model=request.model),
            "",
        )
    if code == "token":
        return DownloadProblem(
            _("{hub} refuses to give {file}").format(hub=host, file=name),
            f"HTTP {found.get('status', '')}",
            _("Accept the model's licence on its page, and give a token that may read it"),
        )
    if code == "file_missing":
        return DownloadProblem(
            _("{hub} lists {file} but does not have it").format(hub=host, file=name),
            f"HTTP {found.get('status', '')}",
            _("Exclude that file, or try another revision"),
        )
    if code == "gave_up":
        return DownloadProblem(
            _("Nothing came from {hub} any more").format(hub=host),
            reason(str(found.get("reason", "")), str(found.get("detail", ""))),
            _("Check the network, then resume: it goes on where it stopped"),
        )
    return None


def _of_this_machine(code: str, why: str, found: Mapping[str, Any]) -> DownloadProblem:
    path = str(found.get("path", ""))
    if code == "no_room":
        return no_room(path, int(found.get("needed", 0)), int(found.get("free", 0)))
    if code == "disk_full":
        return DownloadProblem(
            _("The disk is full"), path, _("Free some space, then resume: it goes on where it stopped")
        )
    if code == "disk":
        return DownloadProblem(_("Can't write {file}").format(file=path), why, _("Check the folder's permissions"))
    return DownloadProblem(_("The download ended with an error"), why or code, _("Its log says more"))


def no_room(folder: str, needed: int, free: int) -> DownloadProblem:
    """The disk of `folder` is too small; sizes in bytes."""
    return DownloadProblem(
        _("Not enough disk space in {folder}").format(folder=folder),
        _("It needs {needed}, {free} are free").format(needed=format_bytes(needed), free=format_bytes(free)),
        _("Free some space, or choose a folder on another disk"),
    )


def listing_error(title: str, why: str, request: DownloadRequest) -> ModelError:
    """What the exception of a hub's client means. title: its class. why: its message."""
    hub = request.hub_facts
    host = hub.host(request.endpoint)
    text = f"{title}: {why}"
    first = next((line.strip() for line in why.splitlines() if line.strip()), title)[:300]
    is_hidden = hub.key == "huggingface" and title == "RepositoryNotFoundError"
    if re.search(_TOKEN_WORDS, text) and not is_hidden:
        return TokenNeeded(
            _("{hub} refuses to give {model}").format(hub=host, model=request.model),
            first,
            _("Accept the model's licence on its page, and give a token that may read it"),
        )
    if title == "RevisionNotFoundError":
        return ModelError(
            _("{model} has no revision “{revision}”").format(model=request.model, revision=request.revision), first
        )
    if is_hidden or re.search(_MISSING_WORDS, text):
        kind = TokenNeeded if is_hidden else ModelError
        return kind(
            _("{hub} has no model {model}").format(hub=host, model=request.model),
            first,
            _("Check the id on the hub's page; a private model needs a token"),
        )
    if title == "NotAFileNameError":
        return ModelError(
            _("{hub} lists a file outside of the model's folder").format(hub=host), first, _("Do not trust this model")
        )
    if re.search(_NETWORK_WORDS, text):
        return ModelError(
            _("{hub} does not answer").format(hub=host),
            first,
            _("Check the network; {variable} names another hub").format(variable=hub.endpoint_variable),
        )
    return ModelError(_("Can't list the files of {model}").format(model=request.model), f"{title}: {first}")
