"""The weights of a model in a few numbers, from the headers of its files: what the catalogue and the fit need.

`safetensors_header` reads one model with every tensor; this reads two hundred of them in a second.
"""

from __future__ import annotations

from dataclasses import dataclass


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
