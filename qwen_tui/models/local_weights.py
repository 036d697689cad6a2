"""The weights of a model in a few numbers, from the headers of its files: what the catalogue and the fit need.

`safetensors_header` reads one model with every tensor; this reads two hundred of them in a second.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_tui.errors import ModelError
from qwen_tui.i18n import _, ngettext
from qwen_tui.models.safetensors_header import DTYPE_BITS, FLOATS, INDEX, Header, damaged, header_of, indexed_files

#: Tensors that a quantized model has beside its parameters: scales, zero points, permutations, tables.
_BESIDE = re.compile(
    r"(?:scales?|scale_inv|scale_[12]|_scales|qzeros|zero_point|g_idx|perm|absmax|quant_map|SCB|weight_format"
    r"|weight_shape|global_scale|inv_freq)$|quant_state"
)
_BIN_INDEX = "pytorch_model.bin.index.json"
_TYPE = re.compile(rb'"dtype":"(\w+)"')
_HEAD = re.compile(rb'lm_head\.weight":\{"dtype":"\w+","shape":\[(\d+(?:,\d+)*)\]')
#: Bytes: smaller *.bin files are something else (training arguments).
_LEAST_BIN = 100_000


@dataclass(frozen=True)
class WeightTally:
    """What a model's weight files hold.

    kind: "safetensors", "bin", "gguf" or "" where there are none. files: how many are there. size: bytes of data.
    parameters: of the model, packed ones unpacked; 0 where the files don't say.
    floats: numbers stored as plain floats, which vLLM turns into the type it computes in. others: bytes of the rest.
    head: of `floats`, those of a stored output layer (lm_head.weight).
    dtypes: type of the file → bytes of it, the largest first.
    """

    kind: str = ""
    files: int = 0
    size: int = 0
    parameters: int = 0
    floats: int = 0
    others: int = 0
    head: int = 0
    dtypes: tuple[tuple[str, int], ...] = ()

    def loaded_size(self, float_bytes: int = 2, *, is_tied: bool = False) -> int:
        """Bytes the weights take once loaded, computing in floats of `float_bytes`. is_tied: the output layer is the
        embedding, and a stored copy of it is not loaded. Formats without headers: the files' own size."""
        if not self.floats and not self.others:
            return self.size
        floats = self.floats - (self.head if is_tied else 0)
        return floats * float_bytes + self.others


class _Sums:
    """Adds up the tensors of a model's files."""

    def __init__(self, bits: int) -> None:
        #: Bits of one quantized parameter, 0 for plain weights.
        self._bits = bits
        self.sizes: Counter[str] = Counter()
        self.floats = self.others = self.head = self.parameters = 0

    def add(self, file: Path) -> None:
        """Take in one file. Raises ModelError if it is damaged or of the wrong length."""
        header = header_of(file)
        alike = _alike(header)
        if alike is not None:
            self._count_alike(*alike)
            return
        try:
            tensors = json.loads(header.text)
            tensors.pop("__metadata__", None)
            end = 0
            for name, entry in tensors.items():
                first, last = entry["data_offsets"]
                end = max(end, last)
                self._count(name, entry["dtype"], last - first, entry["shape"])
            header.check_length(end)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise damaged(file, _("its header can't be read")) from None

    def _count_alike(self, dtype: str, size: int, head: int) -> None:
        elements = size * 8 // DTYPE_BITS[dtype]
        self.sizes[dtype] += size
        self.floats += elements
        self.parameters += elements
        self.head += head

    def _count(self, name: str, dtype: str, size: int, shape: Sequence[int]) -> None:
        bits = DTYPE_BITS.get(dtype)
        elements = size * 8 // bits if bits else math.prod(shape)
        self.sizes[dtype] += size
        if dtype in FLOATS:
            self.floats += elements
            if name.endswith("lm_head.weight"):
                self.head += elements
        else:
            self.others += size
        if not _BESIDE.search(name):
            self.parameters += elements * self._packed(name, dtype)

    def _packed(self, name: str, dtype: str) -> int:
        """How many parameters one number of a quantized tensor holds."""
        if dtype == "I32" and name.endswith(("qweight", "weight_packed")):
            return 32 // (self._bits or 4)
        if dtype == "U8" and (self._bits == 4 or name.endswith(("_blocks", "weight_packed"))):
            return 2
        return 1


def _alike(header: Header) -> tuple[str, int, int] | None:
    """(type, bytes, numbers of them in the output layer) of the usual file: whole, and all floats of one type.

    None for any other, which is then to be read in full: parsing the headers is what a listing's time goes to, and a
    mixture of experts has tens of thousands of entries. The format allows no gap between tensors; so the file is
    whole if one ends where it does, and none begins there.
    """
    text, end = header.text, header.length - 8 - len(header.text)
    if f",{end}]".encode() not in text or f"[{end},".encode() in text:
        return None
    first = _TYPE.search(text)
    dtype = first.group(1).decode() if first else ""
    if dtype not in FLOATS or text.count(f'"dtype":"{dtype}"'.encode()) != text.count(b'"dtype"'):
        return None
    head = _HEAD.search(text)
    if head is None and b"lm_head.weight" in text:
        return None
    numbers = [int(number) for number in head.group(1).split(b",")] if head else [0]
    return dtype, end, math.prod(numbers)


def bits_of(config: Mapping[str, Any]) -> int:
    """Bits of a quantized parameter, by config.json; 0 where it says nothing.

    Sources: the configurations that AutoGPTQ, AutoAWQ, bitsandbytes, compressed-tensors and ModelOpt write; mxfp4's.
    """
    quantization = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(quantization, dict):
        return 0
    groups = quantization.get("config_groups")
    group = next(iter(groups.values()), None) if isinstance(groups, dict) else None
    weights = group.get("weights") if isinstance(group, dict) else None
    bits = weights.get("num_bits") if isinstance(weights, dict) else None
    for found in (quantization.get("bits"), quantization.get("w_bit"), bits):
        if isinstance(found, int) and 2 <= found <= 16:
            return found
    if quantization.get("load_in_4bit") or quantization.get("_load_in_4bit"):
        return 4
    method = str(quantization.get("quant_method", "")).lower()
    words = json.dumps(quantization).lower()
    if quantization.get("load_in_8bit") or quantization.get("_load_in_8bit") or "fp8" in words:
        return 8
    return 4 if "fp4" in words or method in ("awq", "gptq") else 0


def tally_weights(folder: Path, names: Iterable[str], bits: int = 0) -> tuple[WeightTally, list[str]]:
    """What the weight files among `names` (the regular files in `folder`) hold, and what is wrong with them.

    bits: of one quantized parameter (`bits_of`). Never raises: a damaged file is a problem in the second part.
    """
    present = set(names)
    try:
        if INDEX in present:
            return _safetensors(folder, indexed_files(folder / INDEX), present, bits)
        found = sorted(name for name in present if name.endswith(".safetensors"))
        # Mistral puts the same weights there twice, and adapters may lie beside; vLLM takes the usual form.
        usual = [name for name in found if not name.startswith("consolidated")]
        if found:
            return _safetensors(folder, usual or found, present, bits)
        if _BIN_INDEX in present:
            wanted = indexed_files(folder / _BIN_INDEX)
            sizes = [(folder / name).stat().st_size for name in wanted if name in present]
            return WeightTally("bin", len(sizes), sum(sizes)), _missing(wanted, present)
        bins = [folder / name for name in sorted(present) if name.endswith((".bin", ".pt", ".pth"))]
        sizes = [size for size in (file.stat().st_size for file in bins) if size > _LEAST_BIN]
    except ModelError as error:
        return WeightTally("safetensors"), [error.title]
    except OSError as error:
        return WeightTally(), [str(error)]
    if sizes:
        return WeightTally("bin", len(sizes), sum(sizes)), []
    return WeightTally(), [_("There are no weight files")]


def _safetensors(folder: Path, wanted: Sequence[str], present: set[str], bits: int) -> tuple[WeightTally, list[str]]:
    sums = _Sums(bits)
    problems = _missing(wanted, present)
    there = [name for name in wanted if name in present]
    for name in there:
        try:
            sums.add(folder / name)
        except ModelError as error:
            problems.append(f"{error.title}: {error.why}" if error.why else error.title)
    tally = WeightTally(
        "safetensors",
        len(there),
        sums.sizes.total(),
        sums.parameters,
        sums.floats,
        sums.others,
        sums.head,
        tuple(sums.sizes.most_common()),
    )
    return tally, problems


def _missing(wanted: Sequence[str], present: set[str]) -> list[str]:
    missing = [name for name in wanted if name not in present]
    if not missing:
        return []
    text = ngettext(
        "{count} of {total} weight files is missing: {names}",
        "{count} of {total} weight files are missing: {names}",
        len(missing),
    )
    shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
    return [text.format(count=len(missing), total=len(wanted), names=shown)]
