"""How a reply is drawn: every parameter that vLLM's chat and completion take, typed and checked before it is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from qwen_tui.errors import UsageError
from qwen_tui.i18n import N_, _

Api = Literal["chat", "completions"]
#: In which release vLLM took `structured_outputs`; before, the names began with `guided_` (removed in 0.12).
_STRUCTURED_SINCE = (0, 11)
_INT64 = 2**63


@dataclass(frozen=True)
class Parameter:
    """One parameter: its name in the API, what it holds, and what it may be.

    kind: "float", "int", "bool", "texts", "ints", "json" or "text".
    above: the value must be greater than this one; least, most: and may be these.
    about: a msgid for a person.
    """

    name: str
    kind: str
    about: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    metavar: str = "N"

    @property
    def flag(self) -> str:
        """As the command line has it: --top-p."""
        return "--" + self.name.replace("_", "-")

    def range_text(self) -> str:
        """'0 to 2', 'above 0'; empty where anything goes."""
        if self.most is not None and self.most >= _INT64 - 1:
            return ""
        if self.least is not None and self.most is not None:
            return _("{least} to {most}").format(least=f"{self.least:g}", most=f"{self.most:g}")
        if self.above is not None and self.most is not None:
            return _("above {above}, at most {most}").format(above=f"{self.above:g}", most=f"{self.most:g}")
        if self.above is not None:
            return _("above {above}").format(above=f"{self.above:g}")
        return _("{least} or more").format(least=f"{self.least:g}") if self.least is not None else ""

    def parse(self, text: str) -> Any:
        """`text` as a person writes it, as a checked value. Lists are separated by commas, texts as JSON or one text.

        Raises UsageError naming the parameter, what it may be, and what was given.
        """
        try:
            value = _READERS[self.kind](text)
        except (ValueError, TypeError, RecursionError):
            raise self._wrong(text) from None
        return self.check(value)

    def check(self, value: Any) -> Any:
        """`value`, if it is one that this parameter can have. Raises UsageError."""
        if self.kind in ("float", "int"):
            right = isinstance(value, int if self.kind == "int" else int | float) and not isinstance(value, bool)
            if not right or not math.isfinite(value) or not self._in_range(value):
                raise self._wrong(value)
        elif self.kind == "texts":
            if not value or not all(isinstance(part, str) and part for part in value):
                raise self._wrong(value)
        elif self.kind == "ints":
            if not value or not all(type(part) is int and part >= 0 for part in value):
                raise self._wrong(value)
        elif self.kind == "json":
            if not isinstance(value, Mapping):
                raise self._wrong(value)
        elif (self.kind == "bool" and not isinstance(value, bool)) or (
            self.kind == "text" and not (isinstance(value, str) and value)
        ):
            raise self._wrong(value)
        return value

    def _in_range(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
        )

    def _wrong(self, value: Any) -> UsageError:
        kinds = {
            "float": _("a number"), "int": _("a whole number"), "bool": _("true or false"),
            "texts": _("a text that is not empty"), "ints": _("whole numbers, with commas between them"),
            "json": _("a JSON object"), "text": _("a text that is not empty"),
        }  # fmt: skip
        wanted = ", ".join(filter(None, (kinds[self.kind], self.range_text())))
        return UsageError(
            _("{name} must be {wanted}, not {value}").format(name=self.name, wanted=wanted, value=str(value)[:80])
        )


def _read_bool(text: str) -> bool:
    found = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}
    return found[text.strip().lower()] if text.strip().lower() in found else bool(json.loads("?"))


def _read_texts(text: str) -> tuple[str, ...]:
    """One text as it is (a newline written as \\n counts as one), or a JSON list of texts."""
    if text.lstrip().startswith("["):
        found = json.loads(text)
        return tuple(found) if isinstance(found, list) else ()
    return (text.replace("\\n", "\n").replace("\\t", "\t"),)


_READERS: Mapping[str, Any] = {
    "float": float,
    "int": lambda text: int(text.strip()),
    "bool": _read_bool,
    "texts": _read_texts,
    "ints": lambda text: tuple(int(part) for part in text.strip(" []").split(",") if part.strip()),
    "json": json.loads,
    "text": lambda text: text,
}

#: In the order in which a form shows them. The ranges are those of vLLM's SamplingParams, checked against 0.32.
PARAMETERS: tuple[Parameter, ...] = (
    Parameter("temperature", "float", N_("how freely it chooses; 0 always takes the likeliest token"), 0, 2, None, "T"),
    Parameter(
        "top_p", "float", N_("only the likeliest tokens that make up this share together"), None, 1, 0, "P"
    ),
    Parameter("top_k", "int", N_("only so many of the likeliest tokens; 0: all, -1 too"), -1),
    Parameter("min_p", "float", N_("only tokens at least this share as likely as the likeliest"), 0, 1, None, "P"),
    Parameter("max_tokens", "int", N_("the most tokens to answer with"), 1),
    Parameter("min_tokens", "int", N_("no end before so many tokens"), 0),
    Parameter("stop", "texts", N_("end before this text; can be repeated"), metavar="TEXT"),
    Parameter("stop_token_ids", "ints", N_("end at one of these tokens"), metavar="ID,ID"),
    Parameter(
        "repetition_penalty", "float", N_("above 1: against words that are there already, the prompt's too"),
        None, None, 0, "F",
    ),
    Parameter("presence_penalty", "float", N_("above 0: against tokens that were said"), -2, 2, None, "F"),
    Parameter("frequency_penalty", "float", N_("above 0: against tokens, the more often they were said"), -2, 2,
              None, "F"),
    Parameter("seed", "int", N_("the same number gives the same answer again"), -_INT64, _INT64 - 1),
    Parameter("n", "int", N_("how many answers"), 1, 128),
    Parameter("logprobs", "int", N_("how likely each token was, and so many alternatives"), 0),
    Parameter("ignore_eos", "bool", N_("go on after the model wants to end, until max_tokens")),
    Parameter("json_schema", "json", N_("the answer is JSON of this schema"), metavar="JSON"),
    Parameter("regex", "text", N_("the answer matches this regular expression"), metavar="REGEX"),
    Parameter("extra_body", "json", N_("any other fields of the request, as a JSON object"), metavar="JSON"),
)  # fmt: skip
BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}
#: What belongs to the request itself; extra_body can't say it.
_NOT_EXTRA = ("model", "messages", "prompt", "stream", "stream_options")


@dataclass(frozen=True)
class Sampling:
    """How the reply is drawn; None (or nothing in it) leaves a value to the server's default. See PARAMETERS.

    engine_version: vLLM's version where it is known; below 0.11, a regex has another name in the request.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int | None = None
    min_p: float | None = None
    min_tokens: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int | None = None
    logprobs: int | None = None
    ignore_eos: bool | None = None
    json_schema: Mapping[str, Any] | None = None
    regex: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    engine_version: str = field(default="", compare=False)

    def chosen(self) -> dict[str, Any]:
        """The parameters that were chosen, by name; what `make_sampling` takes."""
        values = {name: value for name, value in asdict(self).items() if name in BY_NAME}
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in values.items() if value is not None and value not in ((), {})}  # fmt: skip

    def to_json(self, api: Api = "chat") -> dict[str, Any]:
        """The fields of the request's body that were chosen."""
        values = self.chosen()
        extra = values.pop("extra_body", {})
        schema, regex = values.pop("json_schema", None), values.pop("regex", None)
        if schema is not None:
            # Of the ways to ask for it, the one that every server of this API knows.
            values["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        if regex is not None:
            values |= {"guided_regex": regex} if self._is_old() else {"structured_outputs": {"regex": regex}}
        if api == "chat" and "logprobs" in values:
            values["top_logprobs"] = values.pop("logprobs")
            values["logprobs"] = True
        return {**values, **extra}

    def _is_old(self) -> bool:
        parts = self.engine_version.split(".")[:2]
        return len(parts) == 2 and all(map(str.isdecimal, parts)) and tuple(map(int, parts)) < _STRUCTURED_SINCE

    def with_version(self, version: str) -> Sampling:
        """The same, for a server of this vLLM version."""
        return replace(self, engine_version=version)


def make_sampling(values: Mapping[str, Any]) -> Sampling:
    """A checked Sampling from values by name; None leaves one out.

    Raises UsageError for a name that does not exist (with what was meant), a value out of range, and what can't be
    together.
    """
    checked: dict[str, Any] = {}
    for name, value in values.items():
        parameter = BY_NAME.get(name)
        if parameter is None:
            raise UsageError(_("There is no sampling parameter “{name}”").format(name=name), _suggestion(name))
        if value is None or (parameter.kind in ("texts", "ints", "json") and value in ([], (), {})):
            continue
        if parameter.kind in ("texts", "ints") and isinstance(value, list):
            value = tuple(value)
        checked[name] = parameter.check(value)
    sampling = Sampling(**checked)
    _check_together(sampling)
    return sampling


def _check_together(sampling: Sampling) -> None:
    if sampling.json_schema is not None and sampling.regex is not None:
        raise UsageError(_("json_schema and regex can't be asked for together"))
    if sampling.max_tokens and sampling.min_tokens and sampling.min_tokens > sampling.max_tokens:
        raise UsageError(_("min_tokens is more than max_tokens"))
    if (sampling.n or 1) > 1 and sampling.temperature == 0:
        raise UsageError(
            _("At temperature 0 every answer is the same"), "", _("Ask for n 1, or for a higher temperature")
        )
    for name in sampling.extra_body:
        if name in _NOT_EXTRA:
            raise UsageError(_("extra_body can't set “{name}”: the request has its own").format(name=name))


def _suggestion(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name.replace("-", "_").lower(), BY_NAME, 1, 0.6)
    return _("Did you mean “{near}”?").format(near=near[0]) if near else ""


assert {item.name for item in fields(Sampling)} - {"engine_version"} == set(BY_NAME)
