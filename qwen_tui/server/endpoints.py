"""Model servers that qwen-tui did not start: any OpenAI-compatible base URL, with a key where one is needed.

Two files in the config folder, both mode 0600: `endpoints.toml` (name, URL, model) and `endpoint-keys.toml`. A key is
sent as a bearer token to its own URL and goes nowhere else: not into an argument, a log, an error or JSON.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qwen_tui.errors import ServerError, ServerNotFound, SettingsError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, write_private
from qwen_tui.server.spec import LOOPBACK

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_TIMEOUT = 10.0
_MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Endpoint:
    """One server elsewhere.

    base_url: of its OpenAI API, without a trailing slash: https://example.org/v1.
    model: what to ask for; empty means the first one it serves.
    api_key: sent as a bearer token, or None.
    """

    name: str
    base_url: str
    model: str = ""
    api_key: str | None = field(default=None, repr=False)

    @property
    def sends_key_in_clear(self) -> bool:
        """Whether its key would cross a network unencrypted."""
        address = urlsplit(self.base_url)
        return bool(self.api_key) and address.scheme == "http" and address.hostname not in LOOPBACK

    def to_json(self) -> dict[str, Any]:
        """For `endpoints --json`; whether there is a key, not which."""
        return {"name": self.name, "base_url": self.base_url, "model": self.model, "has_key": bool(self.api_key)}


@dataclass(frozen=True)
class Probe:
    """What an endpoint said. models: in its order. seconds: until the whole answer was there."""

    models: tuple[str, ...]
    seconds: float


class Endpoints:
    """The endpoints of one user, on disk."""

    def __init__(self, paths: Paths) -> None:
        self.file = paths.config / "endpoints.toml"
        self.key_file = paths.config / "endpoint-keys.toml"

    def list(self) -> Sequence[Endpoint]:
        """All of them, by name. Raises SettingsError naming the file that can't be read."""
        keys = _read(self.key_file)
        found = []
        for name, table in sorted(_read(self.file).items()):
            url = table.get("base_url") if isinstance(table, dict) else None
            if not isinstance(url, str) or not isinstance(table.get("model", ""), str):
                raise SettingsError(_("{file}: “{name}” needs a base_url").format(file=self.file, name=name))
            key = keys.get(name)
            if key is not None and not isinstance(key, str):
                raise SettingsError(
                    _("{file}: the key of “{name}” must be a text").format(file=self.key_file, name=name)
                )
            found.append(Endpoint(name, url, table.get("model", ""), key or None))
        return found

    def get(self, name: str) -> Endpoint:
        """The endpoint `name`. Raises ServerNotFound, SettingsError."""
        endpoints = self.list()
        for endpoint in endpoints:
            if endpoint.name == name:
                return endpoint
        known = ", ".join(endpoint.name for endpoint in endpoints)
        raise ServerNotFound(
            _("There is no endpoint “{name}”").format(name=name),
            _("Known are: {names}").format(names=known) if known else "",
            _("`qwen-tui endpoints add NAME URL` adds one"),
        )

    def add(self, name: str, base_url: str, model: str = "", api_key: str | None = None) -> Endpoint:
        """Check and keep an endpoint. Raises UsageError for a wrong name, URL or key, or a name that is taken."""
        endpoint = Endpoint(_checked_name(name), checked_url(base_url), model.strip(), _checked_key(api_key))
        others = {other.name: other for other in self.list()}
        if name in others:
            raise UsageError(
                _("There is an endpoint “{name}” already").format(name=name),
                others[name].base_url,
                _("`qwen-tui endpoints remove {name}` removes it").format(name=name),
            )
        self._write([*others.values(), endpoint])
        return endpoint

    def change(self, name: str, base_url: str, model: str = "", api_key: str | None = None) -> Endpoint:
        """Change an endpoint that is there. api_key: None keeps its key, as long as the server stays the same.

        Raises ServerNotFound, and UsageError as `add` does.
        """
        before = self.get(name)
        url = checked_url(base_url)
        if api_key is None and before.api_key and _origin(url) != _origin(before.base_url):
            raise UsageError(
                _("The key of “{name}” belongs to {url}").format(name=name, url=before.base_url),
                "",
                _("Enter the key of the new address, or a blank for none"),
            )
        key = before.api_key if api_key is None else _checked_key(api_key)
        endpoint = Endpoint(name, url, model.strip(), key)
        self._write([endpoint if other.name == name else other for other in self.list()])
        return endpoint

    def remove(self, name: str) -> None:
        """Forget an endpoint and its key. Raises ServerNotFound."""
        self.get(name)
        self._write([endpoint for endpoint in self.list() if endpoint.name != name])

    def _write(self, endpoints: Sequence[Endpoint]) -> None:
        """The keys before what names them, so that no endpoint is ever without its key."""
        keys = {endpoint.name: endpoint.api_key for endpoint in endpoints if endpoint.api_key}
        tables = {
            endpoint.name: {"base_url": endpoint.base_url, **({"model": endpoint.model} if endpoint.model else {})}
            for endpoint in endpoints
        }
        try:
            if keys or self.key_file.exists():
                write_private(self.key_file, _toml(keys))
            write_private(self.file, _toml(tables))
        except OSError as error:
            raise SettingsError(_("Can't write {file}").format(file=self.file), str(error)) from None


async def probe(endpoint: Endpoint) -> Probe:
    """Ask the endpoint which models it serves. Raises ServerError saying what is wrong, without its key."""
    import httpx

    headers = {"authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
    loopback = urlsplit(endpoint.base_url).hostname in LOOPBACK
    began = time.monotonic()
    try:
        async with (
            # A proxy from the environment can't reach this machine's loopback.
            httpx.AsyncClient(timeout=_TIMEOUT, trust_env=not loopback) as client,
            client.stream("GET", f"{endpoint.base_url}/models", headers=headers) as response,
        ):
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _MOST_BYTES:
                    break
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise ServerError(
            _("“{name}” does not answer").format(name=endpoint.name),
            str(error) or type(error).__name__,
            _("Is {url} right, and is the server up?").format(url=endpoint.base_url),
        ) from None
    if status != 200:
        raise _refusal(endpoint, status)
    try:
        models = tuple(str(entry["id"]) for entry in json.loads(bytes(body))["data"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ServerError(
            _("“{name}” answers, but not as an OpenAI API does").format(name=endpoint.name),
            _("{url}/models is no list of models").format(url=endpoint.base_url),
            _("The base URL usually ends in /v1"),
        ) from None
    return Probe(models, time.monotonic() - began)


def _refusal(endpoint: Endpoint, status: int) -> ServerError:
    title = _("“{name}” answers with HTTP status {status}").format(name=endpoint.name, status=status)
    if status in (401, 403):
        why = _("It does not take the key") if endpoint.api_key else _("It wants a key")
        return ServerError(title, why, _("Remove it and add it with the right key"))
    if 300 <= status < 400:
        return ServerError(title, _("It sends elsewhere; a key is not taken there"), _("Add it with its final URL"))
    return ServerError(title, "", _("The base URL usually ends in /v1"))


def checked_url(text: str) -> str:
    """A base URL in the form that requests are built on; "/v1" is added where there is no path. Raises UsageError."""
    text = text.strip()
    try:
        address = urlsplit(text)
        host, _port = address.hostname, address.port
    except ValueError as error:
        raise UsageError(_("Not a URL: {url}").format(url=_shown(text)), str(error)) from None
    if address.username is not None or address.password is not None:
        raise UsageError(
            _("A URL with a user or a password in it would be shown everywhere"),
            "",
            _("Leave it out, and give the key when asked for it"),
        )
    if address.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x20\x7f-\x9f]", text):
        raise UsageError(_("Not a URL: {url}").format(url=_shown(text)), "", _("For example: https://example.org/v1"))
    if address.query or address.fragment:
        raise UsageError(_("A base URL has no “?” and no “#”: {url}").format(url=_shown(text).split("?")[0]))
    return text.rstrip("/") + ("" if address.path.strip("/") else "/v1")


def _origin(url: str) -> tuple[str, str]:
    """Scheme and host with port: what a key must not leave."""
    address = urlsplit(url)
    return address.scheme, address.netloc.lower()


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text)[:200]


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(_("Name: use letters, digits, '.', '_' and '-' only, not “{name}”").format(name=_shown(name)))
    return name


def _checked_key(key: str | None) -> str | None:
    """The key, or None for an empty one. Its text is in no error."""
    key = (key or "").strip()
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError(_("A key has neither blanks nor letters beyond ASCII"), "", _("Was something else pasted?"))
    return key or None


def _read(file: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with file.open("rb") as opened:
            data: dict[str, Any] = tomllib.load(opened)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(_("Can't read {file}").format(file=file), str(error)) from None
    except ValueError as error:
        # tomllib says where, never what stands there; a bad encoding's message would quote it.
        why = str(error) if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise SettingsError(_("{file} is not valid TOML").format(file=file), why) from None
    with contextlib.suppress(OSError):
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)  # an editor, or a copy, may have opened it to others
    return data


def _toml(data: dict[str, Any]) -> str:
    import tomlkit

    return tomlkit.dumps(data)
