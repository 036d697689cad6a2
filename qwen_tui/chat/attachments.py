"""Files and images that go with a message: read once, checked, and kept as path and hash; small ones as they were."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _

Kind = Literal["file", "image"]
#: Bytes. More text than this no model's context holds; a larger image no server takes.
TEXT_LIMIT = 4 * 1024 * 1024
IMAGE_LIMIT = 20 * 1024 * 1024
#: Bytes. What is larger is kept as path and hash only, and read again when it is sent again.
KEPT_LIMIT = 1_000_000
#: How a file begins that is an image which servers take, and its media type.
_IMAGES: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"BM", 0, "image/bmp"),
)


@dataclass(frozen=True)
class Attachment:
    """A file that goes with a message.

    path: where it was read, absolute. size: bytes. sha256: of its bytes, hexadecimal. media_type: of an image.
    content: a file's text, an image's bytes as base64; None where it has to be read again.
    """

    kind: Kind
    path: str
    size: int
    sha256: str
    media_type: str = ""
    content: str | None = None

    @property
    def name(self) -> str:
        return Path(self.path).name

    def whole(self) -> Attachment:
        """With its content, read again where it is not at hand. Blocks.

        Raises UsageError if the file is gone or has changed.
        """
        if self.content is not None:
            return self
        found = read_attachment(self.path)
        if found.sha256 != self.sha256:
            raise UsageError(
                _("{file} has changed since it was sent").format(file=self.path),
                _("It was too large to be kept in the conversation"),
                _("Edit the message (e) and attach the file anew"),
            )
        return found

    def as_text(self) -> str:
        """A text file as it stands in a message: its name, and a fence that nothing in it closes."""
        content = self.whole().content or ""
        fence = "```"
        while fence in content:
            fence += "`"
        return f"{self.name}:\n{fence}\n{content}{'' if content.endswith(chr(10)) else chr(10)}{fence}"

    def as_part(self) -> dict[str, Any]:
        """An image as the API has it."""
        url = f"data:{self.media_type};base64,{self.whole().content or ''}"
        return {"type": "image_url", "image_url": {"url": url}}

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        kept = self.content if self.size <= KEPT_LIMIT else None
        return {"kind": self.kind, "path": self.path, "size": self.size, "sha256": self.sha256,
                "media_type": self.media_type, "content": kept}  # fmt: skip


def attachment_from(data: Mapping[str, Any]) -> Attachment:
    """What `to_json` wrote."""
    return Attachment(
        "image" if data.get("kind") == "image" else "file",
        str(data.get("path", "")),
        int(data.get("size", 0)),
        str(data.get("sha256", "")),
        str(data.get("media_type", "")),
        data.get("content"),
    )


def read_attachment(path: str, kind: Kind | None = None) -> Attachment:
    """Read a file to be sent; `kind`: what it must be. Blocks.

    Raises UsageError if it is missing, a folder, no regular file, too large, or neither text nor a known image.
    """
    file = Path(path).expanduser().absolute()
    try:
        if file.is_dir():
            raise UsageError(_("{file} is a folder").format(file=file), "", _("Give a file in it"))
        if not file.exists():
            raise UsageError(_("There is no file {file}").format(file=file))
        if not file.is_file():
            raise UsageError(_("{file} is no regular file").format(file=file))
        size = file.stat().st_size
        if size > IMAGE_LIMIT:
            raise _too_large(file, size, IMAGE_LIMIT)
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(_("Can't read {file}").format(file=path), str(error)) from None
    digest = hashlib.sha256(data).hexdigest()
    media_type = next((kind for magic, at, kind in _IMAGES if data[at : at + len(magic)] == magic), "")
    if media_type and kind != "file":
        content = base64.b64encode(data).decode("ascii")
        return Attachment("image", str(file), len(data), digest, media_type, content)
    if kind == "image":
        raise UsageError(
            _("{file} is no image").format(file=file), "", _("PNG, JPEG, GIF, WebP and BMP are known by their content")
        )
    if len(data) > TEXT_LIMIT:
        raise _too_large(file, len(data), TEXT_LIMIT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(
            _("{file} is neither UTF-8 text nor an image").format(file=file),
            "",
            _("PNG, JPEG, GIF, WebP and BMP are known by their content"),
        )
    return Attachment("file", str(file), len(data), digest, "", text)


def _too_large(file: Path, size: int, limit: int) -> UsageError:
    return UsageError(
        _("{file} is too large").format(file=file),
        _("It has {size} MB; at most {limit} MB can be sent").format(
            size=f"{size / 1_048_576:,.1f}", limit=limit // 1_048_576
        ),
    )
