"""The arguments of `qwen-tui batch`, and the order that they make."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import UsageError
from qwen_tui.headless.request_arguments import (
    add_place_arguments,
    add_sampling_arguments,
    choose_server,
    piped_text,
    sampling_of,
)
from qwen_tui.i18n import _
from qwen_tui.paths import Paths

if TYPE_CHECKING:
    from qwen_tui.batch.jobs import Batches
    from qwen_tui.batch.order import BatchInput, BatchOrder, ServerTarget

ACTIONS = ("list", "attach", "cancel", "remove")
#: Arguments of the engine that have a flag of their own here: (as argparse names it, as vLLM spells it).
_ENGINE = (
    ("tokenizer", "--tokenizer"),
    ("max_model_len", "--max-model-len"),
    ("dtype", "--dtype"),
    ("quantization", "--quantization"),
    ("tensor_parallel_size", "--tensor-parallel-size"),
    ("gpu_memory_utilization", "--gpu-memory-utilization"),
    ("max_num_seqs", "--max-num-seqs"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui batch`."""
    parser.add_argument("action", nargs="?", choices=ACTIONS, help=_("what to do with batches that were started"))
    parser.add_argument("id", nargs="?", default="", metavar="ID", help=_("which one (default: the newest)"))
    parser.add_argument(
        "--model", metavar="MODEL", help=_("a model folder or a hub id; through a server, its name there")
    )
    _add_files(parser)
    server = parser.add_argument_group(_("through a running server, without an engine of its own"))
    add_place_arguments(parser)
    server.add_argument("--concurrency", type=_count, metavar="N", default=32, help=_("requests at once (default: 32)"))
    server.add_argument(
        "--retries", type=_count, metavar="N", default=6, help=_("of a request that is refused for now (default: 6)")
    )
    engine = parser.add_argument_group(_("the engine; any other argument of vLLM goes after `--`"))
    for dest, name in _ENGINE:
        engine.add_argument(name, dest=dest, metavar="VALUE")
    engine.add_argument("--trust-remote-code", action="store_true")
    engine.add_argument("--enforce-eager", action="store_true")
    engine.add_argument("--lora", metavar="DIR", default="", help=_("a LoRA adapter's folder"))
    engine.add_argument("--modelscope", action="store_true", help=_("the model comes from ModelScope"))
    engine.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help=_("set a variable for it"))
    engine.add_argument("--engine", default="", help=_("the Python, or the environment, that has vLLM"))
    engine.add_argument("--no-check", action="store_true", help=_("start it even if the plan is against it"))
    add_sampling_arguments(parser)
    parser.epilog = _(
        "Killed or cancelled, the same command goes on where it stopped. Finished rows are handed to the system at "
        "once, and forced to the disk every second. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group(_("in and out"))
    files.add_argument(
        "--input", metavar="FILE", help=_("prompts: text (one a line), JSONL (OpenAI's batches too) or CSV")
    )
    files.add_argument("--prompt", action="append", default=[], metavar="TEXT", help=_("a prompt; can be repeated"))
    files.add_argument("--input-kind", choices=("text", "jsonl", "csv"), default="", help=_("default: by the name"))
    files.add_argument("--column", default="", metavar="NAME", help=_("the column of a CSV file that has the prompts"))
    files.add_argument("--output", metavar="FILE", help=_("JSON lines, one as each is finished; without it, printed"))
    files.add_argument("--format", choices=("rows", "openai"), default="rows", help=_("how the output is shaped"))
    files.add_argument("--overwrite", action="store_true", help=_("begin anew, whatever the output holds"))
    files.add_argument("--chat", action="store_true", help=_("raw prompts go through the chat template"))
    files.add_argument("--system", default="", metavar="TEXT", help=_("with --chat: the system prompt"))
    files.add_argument("--chat-template", default="", metavar="FILE", help=_("a Jinja file; default: the model's own"))
    files.add_argument("--detach", action="store_true", help=_("start it and come back"))
    files.add_argument("--json", action="store_true", help=_("one JSON object at the end"))


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(_("not a whole number above 0: {text}").format(text=text))
    return int(text)


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for. is_printed: nobody named an output, so it is printed."""

    order: BatchOrder
    is_printed: bool


async def wanted(arguments: argparse.Namespace, paths: Paths, batches: Batches) -> Wanted:
    """The order out of the arguments. Reads the input. Raises UsageError, ChatError, ServerError."""
    import asyncio

    from qwen_tui.batch.order import BatchOrder

    sampling = sampling_of(arguments, paths)
    server, model = await _server(arguments, paths)
    if not model:
        raise UsageError(
            _("Which model?"), "", _("qwen-tui batch --model FOLDER --input FILE --output FILE; --help tells more")
        )
    given = await asyncio.to_thread(_input, arguments, batches)
    output = Path(arguments.output) if arguments.output else batches.work_folder() / "results.jsonl"
    order = BatchOrder(
        model=model,
        input=given,
        output=output,
        format=arguments.format,
        sampling=_fields(sampling.chosen()) if server is None else sampling.to_json("completions"),
        chat=arguments.chat,
        system=arguments.system,
        chat_template=_file(arguments.chat_template),
        lora=_folder(arguments.lora),
        arguments=tuple(_engine_words(arguments)) if server is None else (),
        env=_environment(arguments) if server is None else {},
        server=server,
        overwrite=arguments.overwrite,
    )
    return Wanted(order, not arguments.output)


def _fields(chosen: dict[str, Any]) -> dict[str, Any]:
    """The parameters as SamplingParams has them: what stands in extra_body are fields like the others."""
    extra = chosen.pop("extra_body", {})
    return {**chosen, **extra}


async def _server(arguments: argparse.Namespace, paths: Paths) -> tuple[ServerTarget | None, str]:
    """The server to ask, None for an engine of its own; and the model."""
    from qwen_tui.batch.order import ServerTarget

    if not (arguments.server or arguments.base_url or arguments.endpoint):
        return None, _model(arguments.model or "")
    if arguments.extra:
        raise UsageError(_("A server has its arguments already"), " ".join(arguments.extra))
    chosen = await choose_server(arguments, paths)
    target = chosen.target
    server = ServerTarget(target.base_url, target.api_key, arguments.concurrency, arguments.retries)
    return server, target.model


def _model(text: str) -> str:
    """A folder as an absolute path; a hub id as it is."""
    path = Path(text).expanduser()
    if text and path.is_dir():
        return str(path.resolve())
    if text.startswith(("/", "~", "./", "../")):
        raise UsageError(_("Model: there is no {path}").format(path=text))
    return text


def _input(arguments: argparse.Namespace, batches: Batches) -> BatchInput:
    from qwen_tui.batch.order import read_input

    if arguments.input and arguments.prompt:
        raise UsageError(_("--input or --prompt, not both"))
    if arguments.input and arguments.input != "-":
        return read_input(Path(arguments.input), arguments.input_kind, arguments.column)
    prompts = arguments.prompt or piped_text().splitlines()
    if not prompts:
        raise UsageError(_("There are no prompts"), "", _("--input FILE, --prompt TEXT, or lines that are piped in"))
    return batches.typed_input(prompts)


def _file(text: str) -> str:
    if not text:
        return ""
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise UsageError(_("Chat template: there is no file {path}").format(path=text))
    return str(path)


def _folder(text: str) -> str:
    if not text:
        return ""
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise UsageError(_("There is no folder {path}").format(path=text))
    return str(path)


def _engine_words(arguments: argparse.Namespace) -> list[str]:
    words: list[str] = []
    for dest, name in _ENGINE:
        value = getattr(arguments, dest)
        if value is not None:
            words += [name, value]
    for dest, name in (("trust_remote_code", "--trust-remote-code"), ("enforce_eager", "--enforce-eager")):
        if getattr(arguments, dest):
            words.append(name)
    for word in arguments.extra:
        if word.split("=")[0] == "--model":
            raise UsageError(_("Two models: {first} and {second}").format(first=arguments.model, second=word))
    return [*words, *arguments.extra]


def _environment(arguments: argparse.Namespace) -> dict[str, str]:
    environment = {"VLLM_USE_MODELSCOPE": "True"} if arguments.modelscope else {}
    for pair in arguments.env:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(_("--env takes NAME=VALUE, not “{pair}”").format(pair=pair))
        environment[name] = value
    # The key of a server is none of a batch's engine's.
    return {**environment, **({"VLLM_API_KEY": ""} if os.environ.get("VLLM_API_KEY") else {})}
