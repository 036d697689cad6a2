"""What is in a model's weight files, from their headers alone: a few kB of each, whatever its size.

Format: 8 bytes little-endian length of the header, the header (JSON: name → dtype, shape, data_offsets), the data.
Source: the safetensors format description.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _, ngettext

#: Bits of one element.
DTYPE_BITS: Mapping[str, int] = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
    "C64": 64,
}  # fmt: skip
#: Types that vLLM turns into the type it computes in.
FLOATS = ("F64", "F32", "F16", "BF16")
#: A file's name as a value in an index.
_SHARD = re.compile(rb':\s*"([^"\\]+\.(?:safetensors|bin))"')
#: The format allows no longer header.
_LONGEST_HEADER = 100_000_000
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file. size: bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Weights:
    """What a model's folder holds.

    files: the weight files that vLLM would load. size: bytes of data in them. tensors: of safetensors files only.
    problems: what is missing or damaged, a translated sentence each; `broken` are the files they are about.
    kind: "safetensors", "bin", "gguf" or "" where there is none.
    """

    kind: str = ""
    files: tuple[Path, ...] = ()
    size: int = 0
    tensors: tuple[Tensor, ...] = ()
    problems: tuple[str, ...] = ()
    broken: tuple[str, ...] = field(default=())

    @property
    def is_whole(self) -> bool:
        return bool(self.files) and not self.problems

    @property
    def parameters(self) -> int:
        """Elements of all tensors. Quantized weights are packed: then it is less than the model's parameters."""
        return sum(tensor.elements for tensor in self.tensors)

    def loaded_size(self, float_bytes: int | None = None, *, is_tied: bool = False) -> int:
        """Bytes the weights take once loaded. float_bytes: of the type vLLM computes in, for plain floats; None keeps
        the files' own. is_tied: the output layer is the embedding, and a stored copy of it is not loaded."""
        if not self.tensors:
            return self.size
        total = 0
        for tensor in self.tensors:
            if is_tied and tensor.name.endswith("lm_head.weight"):
                continue
            converted = float_bytes is not None and tensor.dtype in FLOATS
            total += tensor.elements * (float_bytes or 0) if converted else tensor.size
        return total


def read_header(file: Path) -> list[Tensor]:
    """The tensors of a safetensors file. Raises ModelError if the file is not exactly as long as its header says,
    or is no such file at all."""
    header = header_of(file)
    tensors, end = _tensors(file, header.text)
    header.check_length(end)
    return tensors


@dataclass(frozen=True)
class Header:
    """A file's header as it stands there. length: of the whole file, in bytes. text: JSON."""

    file: Path
    length: int
    text: bytes

    def check_length(self, end: int) -> None:
        """Raises ModelError unless the file ends where its data does, `end` bytes after the header."""
        wanted = 8 + len(self.text) + end
        if self.length != wanted:
            words = _("{file} is {length:,} bytes long; by its header it should be {wanted:,}")
            raise ModelError(words.format(file=self.file.name, length=self.length, wanted=wanted))


def header_of(file: Path) -> Header:
    """The header of a safetensors file, not yet parsed. Raises ModelError."""
    try:
        with open_quietly(file) as stream:
            length = os.fstat(stream.fileno()).st_size
            start = stream.read(8)
            size = int.from_bytes(start, "little")
            if start.startswith(b"version "):
                raise ModelError(_("{file} is a Git LFS pointer, not the weights themselves").format(file=file.name))
            if len(start) < 8 or not 2 <= size <= min(_LONGEST_HEADER, max(2, length)):
                raise damaged(file, _("{length:,} bytes, and no header at their start").format(length=length))
            text = stream.read(size)
    except OSError as error:
        raise ModelError(_("Can't read {file}").format(file=file.name), str(error)) from None
    if len(text) < size:
        raise damaged(file, _("it ends within its header"))
    return Header(file, length, text)


def open_quietly(file: Path) -> BinaryIO:
    """`file`, to be read without noting the access: when the weights were last read tells when they were last used."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    except PermissionError:  # only the owner may ask for that
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    return os.fdopen(descriptor, "rb")


def damaged(file: Path, why: str) -> ModelError:
    """The error for a file that is not what its name says."""
    return ModelError(_("{file} is damaged: {why}").format(file=file.name, why=why))


def _tensors(file: Path, text: bytes) -> tuple[list[Tensor], int]:
    """The tensors in a header, and where the data ends."""
    try:
        header = json.loads(text)
        tensors, end = [], 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            shape = tuple(int(length) for length in entry["shape"])
            tensor = Tensor(str(name), str(entry["dtype"]), shape, int(last) - int(first))
            bits = DTYPE_BITS.get(tensor.dtype)
            if first < 0 or (bits is not None and math.ceil(tensor.elements * bits / 8) != tensor.size):
                raise damaged(file, _("the length of {tensor} does not fit its shape").format(tensor=name))
            tensors.append(tensor)
            end = max(end, int(last))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged(file, _("its header can't be read")) from None
    return tensors, end


def read_weights(folder: Path) -> Weights:
    """The weights in `folder` (or of a single .gguf file), with everything that is wrong with them. Never raises."""
    if folder.is_file():
        return Weights("gguf", (folder,), folder.stat().st_size)
    index = folder / INDEX
    try:
        if index.is_file():
            return _read_files(folder, indexed_files(index))
        names = sorted(path.name for path in folder.glob("*.safetensors"))
        # Mistral puts the same weights there twice; vLLM takes the ones in the usual form.
        usual = [name for name in names if not name.startswith("consolidated")]
        if usual or names:
            return _read_files(folder, usual or names)
        return _other_formats(folder)
    except ModelError as error:
        return Weights("safetensors", problems=(error.title,), broken=(INDEX,))
    except OSError as error:
        return Weights(problems=(str(error),))


def indexed_files(index: Path) -> list[str]:
    """The files that an index names. Raises ModelError."""
    try:
        text, found = index.read_bytes(), set[str]()
        if text.count(b"{") == text.count(b"}") <= 3 and b'"weight_map"' in text:
            # An index of a hundred thousand tensors names a few dozen files: taken from the text it costs a tenth.
            found = {name.decode() for name in set(_SHARD.findall(text))}
        if not found:
            found = {str(name) for name in json.loads(text)["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(_("{file} can't be read").format(file=index.name)) from None
    return sorted(found)


def _read_files(folder: Path, names: list[str]) -> Weights:
    tensors: list[Tensor] = []
    problems: list[str] = []
    broken: list[str] = []
    missing: list[str] = []
    for name in names:
        if not (folder / name).is_file():
            missing.append(name)
            continue
        try:
            tensors += read_header(folder / name)
        except ModelError as error:
            problems.append(str(error).replace("\n", ": "))
            broken.append(name)
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        text = ngettext(
            "{count} of {total} weight files is missing: {names}",
            "{count} of {total} weight files are missing: {names}",
            len(missing),
        )
        problems.append(text.format(count=len(missing), total=len(names), names=shown))
    return Weights(
        "safetensors",
        tuple(folder / name for name in names if name not in missing),
        sum(tensor.size for tensor in tensors),
        tuple(tensors),
        tuple(problems),
        (*missing, *broken),
    )


def _other_formats(folder: Path) -> Weights:
    """Weights in an older form: their sizes are all that can be told without loading them."""
    index = folder / "pytorch_model.bin.index.json"
    if index.is_file():
        names = indexed_files(index)
        missing = [name for name in names if not (folder / name).is_file()]
        files = tuple(folder / name for name in names if name not in missing)
        problems = tuple(_("{file} is missing").format(file=name) for name in missing)
        return Weights("bin", files, sum(file.stat().st_size for file in files), (), problems, tuple(missing))
    for kind, pattern in (("bin", "*.bin"), ("bin", "*.pt"), ("gguf", "*.gguf")):
        files = tuple(sorted(file for file in folder.glob(pattern) if file.stat().st_size > 100_000))
        if files:
            return Weights(kind, files, sum(file.stat().st_size for file in files))
    return Weights(problems=(_("There are no weight files (*.safetensors) in {folder}").format(folder=folder),))
