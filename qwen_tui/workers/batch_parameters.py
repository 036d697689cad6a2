"""Sampling parameters of a batch as vLLM's SamplingParams takes them: every field of it by name, its type checked.

Under the engine's interpreter: which fields there are depends on its version.
"""

from __future__ import annotations

import math
import types
import typing
from typing import Any, Union

#: The largest float32.
_LARGEST_FLOAT = 3.4028234e38
#: Fields of SamplingParams that belong to the engine, or would take away what the results are made of.
_INTERNAL = frozenset(
    [
        "output_kind",
        "detokenize",
        "skip_clone",
        "output_text_buffer_length",
        "logits_processors",
        "flat_logprobs",
        "stream_interval",
        "trace_decode_token_ids",
    ]
)


class ParameterError(Exception):
    """A parameter that can't be used; the text names it."""


class Parameters:
    """Makes SamplingParams out of fields by name.

    base: values under all others (the model's generation_config and the batch's own), by SamplingParams' names or
    OpenAI's. Raises ParameterError for what the engine does not take.
    """

    def __init__(self, base: dict[str, Any]) -> None:
        from vllm import SamplingParams

        self._make = SamplingParams
        self._hints = _hints(SamplingParams)
        self._base = self._checked(base)
        self.shared = self._built(self._base)

    def of(self, own: dict[str, Any]) -> Any:
        """The SamplingParams of a row with these fields of its own. Raises ParameterError."""
        return self._built({**self._base, **self._checked(own)}) if own else self.shared

    def _checked(self, given: dict[str, Any]) -> dict[str, Any]:
        values = {}
        for name, value in _renamed(given).items():
            if name.startswith("_") or name in _INTERNAL or name not in self._hints:
                raise ParameterError(f"SamplingParams has no {name}")
            values[name] = (
                _structured(value, self._hints) if name in _STRUCTURED else _fitting(name, value, self._hints)
            )
        return values

    def _built(self, values: dict[str, Any]) -> Any:
        try:
            made = self._make(**values)
        except Exception as error:  # noqa: BLE001 - vLLM's own validation, whose class differs by version
            raise ParameterError(str(error)) from None
        if "output_kind" in self._hints:
            from vllm.sampling_params import RequestOutputKind

            made.output_kind = RequestOutputKind.FINAL_ONLY
        return made


_STRUCTURED = ("structured_outputs", "guided_decoding")


def _hints(make: Any) -> dict[str, Any]:
    """Its fields and their types; those that can't be read are Any."""
    try:
        hints = typing.get_type_hints(make)
    except Exception:  # noqa: BLE001 - a name that only exists while types are checked
        hints = {}
    import inspect

    return {name: hints.get(name, Any) for name in inspect.signature(make).parameters}


def _renamed(given: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's names and shapes turned into SamplingParams'."""
    values = {name: value for name, value in given.items() if value is not None}
    if "max_completion_tokens" in values:
        values["max_tokens"] = values.pop("max_completion_tokens")
    top = values.pop("top_logprobs", None)
    if values.get("logprobs") is True:
        values["logprobs"] = top or 0
    elif values.get("logprobs") is False:
        del values["logprobs"]
    shape = values.pop("response_format", None)
    if shape is not None:
        values |= _response_format(shape)
    for name, field in (("json_schema", "json"), ("regex", "regex")):
        if name in values:
            values["structured_outputs"] = {field: values.pop(name)}
    if values.pop("best_of", 1) != 1:
        raise ParameterError("SamplingParams has no best_of")
    return values


def _response_format(shape: Any) -> dict[str, Any]:
    kind = shape.get("type") if isinstance(shape, dict) else shape
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"structured_outputs": {"json_object": True}}
    schema = shape.get("json_schema") if isinstance(shape, dict) else None
    if kind == "json_schema" and isinstance(schema, dict) and "schema" in schema:
        return {"structured_outputs": {"json": schema["schema"]}}
    raise ParameterError(f"response_format: {kind}")


def _structured(value: Any, hints: dict[str, Any]) -> Any:
    """vLLM's object for structured outputs, under whichever name this version has it."""
    if not isinstance(value, dict):
        raise ParameterError("structured_outputs must be an object")
    try:
        if "structured_outputs" in hints:
            from vllm.sampling_params import StructuredOutputsParams

            return StructuredOutputsParams(**value)
        from vllm.sampling_params import GuidedDecodingParams

        return GuidedDecodingParams(**value)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"structured_outputs: {error}") from None


def _fitting(name: str, value: Any, hints: dict[str, Any]) -> Any:
    """`value` as its field takes it. Raises ParameterError."""
    if not _is_within(value):
        raise ParameterError(f"{name} is out of range: {str(value)[:80]}")
    if name == "logit_bias" and isinstance(value, dict):
        try:
            return {int(token): float(bias) for token, bias in value.items()}
        except (TypeError, ValueError):
            raise ParameterError("logit_bias: token numbers with a number each are wanted") from None
    if not _fits(value, hints[name]):
        wanted = getattr(hints[name], "__name__", None) or str(hints[name]).replace("typing.", "")
        if isinstance(hints[name], types.UnionType):
            wanted = str(hints[name])
        raise ParameterError(f"{name} must be {wanted}, not {str(value)[:80]!r}")
    return value


def _is_within(value: Any) -> bool:
    """Whether every number in it is one that the engine's arrays can hold: more would end it, and the whole batch."""
    if isinstance(value, dict):
        return all(_is_within(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(_is_within, value))
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) <= _LARGEST_FLOAT
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value out of JSON is of this type; types that JSON has not are left to vLLM."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(part, inner[0]) for part in value)
    return isinstance(value, dict) if origin is dict else True
