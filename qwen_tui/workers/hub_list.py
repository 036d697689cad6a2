"""Ask a hub, through its own client, what a model consists of; and say where its client would keep each file.

Runs under qwen-tui's interpreter. Request: {"hub", "model", "revision", "cache_dir", "endpoint", "include", "exclude",
"token_file", "is_elsewhere", "with_authorization"}. Result: {"folder", "commit", "files": [{"name", "url", "target",
"link", "size", "identity", "present"}], "left_out", "refs", "authorization"}. Empty texts mean the hub's defaults.
is_elsewhere: the address is not the hub's own: of all tokens only the one in token_file, which was given for it, is
sent there. target: the file with the bytes. link: a symbolic link to be made to it, or empty. identity: "sha256:…" or
"git:…", or empty. present: bytes on the disk. refs: {file: text} to be written at the end. authorization: headers, if
asked for, else {}.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import hub_parts, protocol
else:
    import hub_parts
    import protocol


class NotAFileNameError(ValueError):
    """The hub lists a name that would lie outside the model's folder."""


def main(request: dict[str, Any]) -> dict[str, Any]:
    token = _token(request.get("token_file", ""))
    ask = _huggingface if request["hub"] == "huggingface" else _modelscope
    answer = ask(request, token)
    chosen = [file for file in answer["files"] if _is_wanted(file["name"], request)]
    names: dict[str, set[str]] = {}
    for file in chosen:
        _refuse_outside(file["name"])
        file["present"] = _present(file, names)
    answer["left_out"] = len(answer["files"]) - len(chosen)
    answer["files"] = chosen
    if not request.get("with_authorization"):
        answer["authorization"] = {}
    return answer


def _token(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip() if file else ""
    except OSError:
        return ""


def _is_wanted(name: str, request: dict[str, Any]) -> bool:
    include, exclude = request.get("include") or [], request.get("exclude") or []
    if include and not any(fnmatch.fnmatch(name, glob) for glob in include):
        return False
    return not any(fnmatch.fnmatch(name, glob) for glob in exclude)


def _refuse_outside(name: str) -> None:
    parts = name.split("/")
    if name.startswith("/") or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise NotAFileNameError(repr(name))


def _identity(kind: str, digest: str | None) -> str:
    """ "sha256:…" or "git:…"; empty where the hub tells no such hash."""
    length = 64 if kind == "sha256" else 40
    return f"{kind}:{digest.lower()}" if digest and re.fullmatch(rf"[0-9a-fA-F]{{{length}}}", digest) else ""


def _present(file: dict[str, Any], folders: dict[str, set[str]]) -> int:
    """folders: the names in each folder, read once: a thousand files are looked for in it."""
    place, name = os.path.split(file["target"])
    if place not in folders:
        try:
            folders[place] = set(os.listdir(place))  # noqa: PTH208
        except OSError:
            folders[place] = set()
    if not folders[place].intersection((name, name + hub_parts.SUFFIX, name + hub_parts.CLIENTS_SUFFIX)):
        return 0
    target, size = Path(file["target"]), int(file["size"])
    try:
        if target.stat().st_size == size:
            return size
    except OSError:
        pass
    return hub_parts.present(target, file["identity"] or file["url"], size)


# -- ModelScope ------------------------------------------------------------------------------------


def _modelscope(request: dict[str, Any], token: str) -> dict[str, Any]:
    os.environ.setdefault("TQDM_DISABLE", "1")
    model, revision = request["model"], request.get("revision") or "master"
    client, entries = _modelscope_listing(request, model, revision, token)
    found = [_modelscope_entry(entry) for entry in entries]
    # Folders are listed too, and the answer does not always say which ones they are.
    folders = {name[:end] for name, *_rest in found for end, character in enumerate(name) if character == "/"}
    folder = _modelscope_folder(Path(request["cache_dir"]), model, revision)
    files = [
        {
            "name": name,
            "url": client.get_download_url(model, "model", name, revision),
            "target": f"{folder}/{name}",
            "link": "",
            "size": size,
            "identity": _identity("sha256", digest),
        }
        for name, size, digest, kind in found
        if name and name not in folders and kind != "tree"
    ]
    known = client.token or ""
    # As the client does it: the older part of the hub reads the cookie, the newer one the header.
    authorization = {"Authorization": f"Bearer {known}", "Cookie": f"m_session_id={known}"} if known else {}
    return {"folder": str(folder), "commit": revision, "files": files, "refs": {}, "authorization": authorization}


def _modelscope_listing(
    request: dict[str, Any], model: str, revision: str, token: str
) -> tuple[Any, list[dict[str, Any]]]:
    """The client that answers for the hub which has the model, and the hub's entries."""
    endpoint = request.get("endpoint") or ""
    with _parts_of("modelscope_hub"):
        from modelscope_hub._legacy_api import LegacyClient
        from modelscope_hub.config import HubConfig, get_default_config
        from modelscope_hub.errors import NotExistError
        from modelscope_hub.version import __version__

    config = get_default_config()
    chosen = HubConfig.normalize_endpoint(endpoint) if endpoint else config.endpoint or ""
    is_chosen = bool(endpoint) or config._endpoint_overridden
    known = token or (None if request.get("is_elsewhere") else config.token)
    # Told its own name: else the client starts a program to find out what to call the processor.
    client = LegacyClient(known, chosen, user_agent=f"modelscope_hub/{__version__} qwen-tui")
    try:
        if is_chosen or not os.environ.get("MODELSCOPE_PREFER_AI_SITE"):
            return client, client.list_repo_files(model, "model", revision=revision)
    except NotExistError:
        if is_chosen:
            raise
    from modelscope_hub import HubApi

    # The client knows two sites, and asks which of them has the model.
    api = HubApi(endpoint=HubApi(token=token or None).resolve_endpoint_for_read(model), token=token or None)
    return api.legacy, api.legacy.list_repo_files(model, "model", revision=revision)


@contextlib.contextmanager
def _parts_of(package: str) -> Iterator[None]:
    """Import single modules of `package` without all of the rest, which its __init__ imports and a listing never uses.

    That takes as long as the whole listing from a near hub. Afterwards the package is as if never imported.
    """
    spec = importlib.util.find_spec(package)
    if package in sys.modules or spec is None:
        yield
        return
    empty = types.ModuleType(package)
    empty.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[package] = empty
    try:
        yield
    finally:
        del sys.modules[package]


def _modelscope_entry(entry: dict[str, Any]) -> tuple[str, int, str, str]:
    """Name, size, SHA-256 and type, in either spelling that the hub uses (see modelscope_hub's list_repo_files)."""
    name = entry.get("Path") or entry.get("path") or entry.get("Name") or ""
    size = int(entry.get("Size") or entry.get("size") or 0)
    return (
        str(name),
        size,
        entry.get("Sha256") or entry.get("sha256") or "",
        entry.get("Type") or entry.get("type") or "",
    )


def _modelscope_folder(cache: Path, model: str, revision: str) -> Path:
    """Where the client keeps this model: an older layout where the model is there in it already, else today's."""
    owner, name = model.split("/", 1)
    dotless = name.replace(".", "___")
    for older in (cache / "models" / owner / dotless, cache / "hub" / "models" / owner / dotless):
        if older.is_dir() and any(older.iterdir()):
            return older
    # All others begin in one of these; looked for before the import, which takes a tenth of a second.
    if any(place.is_dir() for place in (cache / owner, cache / "hub", cache / "models" / owner)):
        from modelscope.hub.utils.utils import find_reusable_legacy_repo_dir

        legacy = find_reusable_legacy_repo_dir(model, "model", str(cache))
        if legacy:
            return Path(legacy)
    return cache / "models" / model.replace("/", "--") / "snapshots" / revision


# -- Hugging Face ----------------------------------------------------------------------------------


def _huggingface(request: dict[str, Any], token: str) -> dict[str, Any]:
    from huggingface_hub import HfApi, get_token, hf_hub_url

    model, revision = request["model"], request.get("revision") or "main"
    endpoint = request.get("endpoint") or None
    known = token or (not request.get("is_elsewhere") and get_token()) or ""
    api = HfApi(endpoint=endpoint, token=known or False, library_name="qwen-tui")
    info = api.model_info(model, revision=revision, files_metadata=True, timeout=30)
    commit = info.sha or revision
    _refuse_outside(commit)
    root = Path(request["cache_dir"]) / f"models--{model.replace('/', '--')}"
    folder = root / "snapshots" / commit
    files = []
    for entry in info.siblings or []:
        sha256 = _identity("sha256", entry.lfs.sha256 if entry.lfs is not None else "")
        identity = sha256 or _identity("git", entry.blob_id)
        blob = identity.partition(":")[2]
        # The client names the file with the bytes by its hash and links to it.
        target = root / "blobs" / blob if blob else folder / entry.rfilename
        files.append(
            {
                "name": entry.rfilename,
                "url": hf_hub_url(model, entry.rfilename, revision=commit, endpoint=endpoint),
                "target": str(target),
                "link": str(folder / entry.rfilename) if blob else "",
                "size": int(entry.size or 0),
                "identity": identity,
            }
        )
    refs = {str(root / "refs" / revision): commit} if revision != commit else {}
    authorization = {"Authorization": f"Bearer {known}"} if known else {}
    return {"folder": str(folder), "commit": commit, "files": files, "refs": refs, "authorization": authorization}


if __name__ == "__main__":
    protocol.run(main)
