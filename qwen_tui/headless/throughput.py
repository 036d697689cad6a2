"""`qwen-tui throughput`: the same prompts through vLLM and through transformers, and how far they are apart."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.bench.throughput import Outcome, Work
    from qwen_tui.bench.throughput_backends import ServerBackend, Step
    from qwen_tui.bench.throughput_run import Comparison
    from qwen_tui.headless.plain import PlainProgress

#: Words after `--` come as arguments.extra.
TAKES_EXTRA = True
#: Arguments of vLLM's engine that vLLM's own script takes too, handed on as they are; whether they have a value.
_HANDED_ON: Mapping[str, bool] = {
    "--gpu-memory-utilization": True,
    "--enforce-eager": False,
    "--kv-cache-dtype": True,
    "--enable-prefix-caching": False,
    "--enable-chunked-prefill": False,
    "--max-num-seqs": True,
    "--max-num-batched-tokens": True,
    "--load-format": True,
    "--download-dir": True,
}
_BAR = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui throughput`, named as those of vLLM's benchmark_throughput.py."""
    parser.add_argument("--model", required=True, metavar="MODEL", help=_("a model folder or a hub id"))
    parser.add_argument(
        "--backend", default="vllm,hf", metavar="NAME,…", help=_("vllm, hf, mii, server (default: vllm,hf)")
    )
    _add_work_arguments(parser)
    parser.add_argument("--server", metavar="NAME", help=_("for the backend `server`: one that `qwen-tui ps` lists"))
    parser.add_argument("--base-url", metavar="URL", help=_("the same for any other OpenAI API"))
    parser.add_argument("--endpoint", metavar="NAME", help=_("the same for one that `qwen-tui endpoints` lists"))
    parser.add_argument("--served-model-name", metavar="NAME", help=_("the model's name there"))
    for option, has_value in _HANDED_ON.items():
        how: dict[str, Any] = {"metavar": "VALUE"} if has_value else {"action": "store_true"}
        parser.add_argument(option, help=_("handed on to vLLM"), **how)
    parser.add_argument("--use-beam-search", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="", help=_("the Python, or the environment, that has vLLM"))
    parser.add_argument("--output-json", metavar="FILE", help=_("write the result there, too"))
    parser.add_argument("--json", action="store_true", help=_("print the result as one JSON object"))
    parser.epilog = _("What stands after `--` is handed to vLLM's engine as it is")


def _add_work_arguments(parser: argparse.ArgumentParser) -> None:
    numbers = (
        ("--input-len", 64, _("tokens of a prompt")),
        ("--num-prompts", 25, _("how many prompts")),
        ("--seed", 2024, _("makes the same prompts again")),
        ("--n", 1, _("answers to each prompt")),
        ("--repeat", 1, _("rounds, with the model loaded once")),
    )
    parser.add_argument(
        "--output-len", type=_count, metavar="N", help=_("tokens of an answer (default: 128, or as the data set says)")
    )
    for option, default, words in numbers:
        text = _("{what} (default: {value})").format(what=words, value=default)
        parser.add_argument(option, type=_count, default=default, metavar="N", help=text)
    parser.add_argument(
        "--num-warmups", type=_count, metavar="N", help=_("prompts before the clock starts (default: a batch of them)")
    )
    parser.add_argument("--dataset", default="", metavar="FILE", help=_("ShareGPT's JSON, or JSON lines of prompts"))
    parser.add_argument("--dtype", default="auto", help=_("auto, half, float16, bfloat16, float, float32"))
    parser.add_argument("--max-model-len", type=_count, metavar="N", help=_("tokens of context"))
    parser.add_argument(
        "--hf-max-batch-size", "--hf_max_batch_size", type=_count, default=25, metavar="N",
        help=_("prompts of a batch of transformers' (default: 25)"),
    )  # fmt: skip
    parser.add_argument("--tokenizer", default="", help=_("another than the model's own"))
    parser.add_argument("--trust-remote-code", action="store_true", help=_("run code that comes with the model"))
    parser.add_argument("--tensor-parallel-size", "-tp", type=_count, default=1, metavar="N", help=_("GPUs for vLLM"))
    parser.add_argument("--quantization", "-q", default="", help=_("how the weights are quantized, for vLLM"))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(_("not a whole number: {text}").format(text=text))
    return int(text)


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Measure; 0 when every backend came to its end. Raises UsageError, EngineError, BenchError."""
    from qwen_tui.headless.running import run_interruptible

    work = work_of(arguments, paths, settings)
    if arguments.output_json and not Path(arguments.output_json).absolute().parent.is_dir():
        raise UsageError(_("There is no folder for {file}").format(file=arguments.output_json))
    return run_interruptible(
        lambda: _throughput(arguments, work, paths, settings),
        lambda: _("Interrupted: what ran was ended, and its memory is free again"),
    )


def work_of(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> Work:
    """What the arguments ask for. Raises UsageError."""
    from qwen_tui.bench.throughput import Work

    if arguments.use_beam_search:
        raise UsageError(
            _("--use-beam-search can't be compared"),
            _("vLLM took beam search out of its sampling, and its speed depends on what is searched"),
            _("Leave it out: both draw one token after the other from the same distribution"),
        )
    length = arguments.output_len
    work = Work(
        model=_model(arguments.model, paths, settings),
        backends=tuple(name.strip() for name in arguments.backend.split(",") if name.strip()),
        tokenizer=_absolute(arguments.tokenizer),
        input_len=arguments.input_len,
        output_len=length if length is not None else 0 if arguments.dataset else 128,
        num_prompts=arguments.num_prompts,
        seed=arguments.seed,
        dtype=arguments.dtype,
        max_model_len=arguments.max_model_len,
        hf_max_batch_size=arguments.hf_max_batch_size,
        dataset=_absolute(arguments.dataset),
        n=arguments.n,
        warmups=arguments.num_warmups,
        repeat=arguments.repeat,
        trust_remote_code=arguments.trust_remote_code,
        tensor_parallel_size=arguments.tensor_parallel_size,
        quantization=arguments.quantization,
        engine_arguments=(*_handed_on(arguments), *arguments.extra),
    )
    work.check()
    named = [arguments.server, arguments.base_url, arguments.endpoint]
    if any(named) and "server" not in work.backends:
        raise UsageError(_("A server is named, but not the backend `server`"), "", "--backend vllm,hf,server")
    return work


def _handed_on(arguments: argparse.Namespace) -> list[str]:
    words = []
    for option in _HANDED_ON:
        value = getattr(arguments, option[2:].replace("-", "_"))
        words += [option] if value is True else [option, str(value)] if value else []
    return words


def _absolute(path: str) -> str:
    """A file or folder as a worker finds it from anywhere; other texts (hub ids) as they are."""
    found = Path(path).expanduser()
    return str(found.resolve()) if path and found.exists() else path


def _model(name: str, paths: Paths, settings: Settings) -> str:
    """A folder as it is, a model of the catalogue's as its folder, anything else as a hub id."""
    if Path(name).expanduser().exists():
        return _absolute(name)
    if name.startswith(("/", "~", "./", "../")):
        raise UsageError(_("Model: there is no {path}").format(path=name))
    from qwen_tui.errors import QwenTuiError
    from qwen_tui.server.model_records import read_model_records

    try:
        return str(read_model_records(paths).catalogue(paths, settings.model_folders).find(name).path)
    except QwenTuiError:
        if "/" not in name:
            raise
        return name


async def _throughput(arguments: argparse.Namespace, work: Work, paths: Paths, settings: Settings) -> int:
    from qwen_tui.bench.throughput_run import Comparison, Watcher, finished
    from qwen_tui.bench.throughput_words import work_text
    from qwen_tui.engine.find import find_engine
    from qwen_tui.headless.plain import PlainProgress
    from qwen_tui.server.offline_failure import explain

    engine = await asyncio.to_thread(find_engine, paths, settings.engine, arguments.engine)
    server = await _server(arguments, paths) if "server" in work.backends else None
    comparison = Comparison(
        paths, work, engine.python, explain=explain, server=server, engine_version=engine.version, argv=sys.argv
    )
    print(work_text(work), file=sys.stderr, flush=True)
    await _tell_of_servers(work, paths)
    with PlainProgress(sys.stderr) as show, StepProgress(show) as steps:

        def tell(outcome: Outcome) -> None:
            steps.rest()
            print_outcome(outcome, as_json=arguments.json)

        outcomes = await comparison.run(Watcher(steps, tell))
    _print_result(arguments, work, comparison, outcomes)
    return 0 if finished(outcomes, work.backends) else 1


async def _tell_of_servers(work: Work, paths: Paths) -> None:
    """Say so where a server of this user's is in the way."""
    from qwen_tui.server.service import Servers

    if work.backends == ("server",):
        return
    servers = Servers(paths)
    try:
        living = [status.name for status in servers.list() if status.state.is_alive]
    finally:
        await servers.close()
    if living:
        text = _("{names} runs: it takes memory that this test needs, and its work is in the figures")
        print(_("Note: {text}").format(text=text.format(names=", ".join(living))), file=sys.stderr, flush=True)


async def _server(arguments: argparse.Namespace, paths: Paths) -> ServerBackend:
    """The server to ask. Raises UsageError, ServerError, ChatError."""
    from qwen_tui.bench.throughput_backends import ServerBackend
    from qwen_tui.headless.bench_target import choose

    chosen = await choose(
        argparse.Namespace(
            server=arguments.server,
            base_url=arguments.base_url,
            endpoint=arguments.endpoint,
            model=arguments.served_model_name,
            api="completions",
        ),
        paths,
    )
    return ServerBackend(chosen.target, chosen.about)


class StepProgress:
    """Hands a comparison's steps on as progress, twice a second also while nothing is heard: loading takes a while."""

    def __init__(self, show: PlainProgress) -> None:
        self._show = show
        self._step: Step | None = None
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> StepProgress:
        self._task = asyncio.ensure_future(self._tick())
        return self

    def __exit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()

    def __call__(self, step: Step) -> None:
        self._step = step
        self._draw()

    def rest(self) -> None:
        """Leave the stream to other text until the next step."""
        self._step = None
        self._show.close()

    def _draw(self) -> None:
        from qwen_tui.bench.throughput_words import as_progress

        if self._step is not None:
            self._show(as_progress(self._step))

    async def _tick(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(0.5)
                self._draw()


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """A backend's own lines, as soon as it is through: figures on stdout, what failed on stderr."""
    from qwen_tui.bench.throughput import throughput_line
    from qwen_tui.bench.throughput_words import outcome_text
    from qwen_tui.logs.plain_text import harmless

    if outcome.rounds and not as_json:
        print(harmless(outcome_text(outcome)), flush=True)
        print(throughput_line(outcome), flush=True)
    failure = outcome.failure
    if failure is None:
        return
    lines = [_("{backend} failed: {title}").format(backend=outcome.backend, title=failure.title)]
    lines += [f"  {line}" for text in (failure.why, failure.hint) for line in text.splitlines()]
    lines += ["  " + _("The whole output is in {log}").format(log=failure.log)] if failure.log else []
    for line in lines:
        print(harmless(line), file=sys.stderr, flush=True)


def _print_result(arguments: argparse.Namespace, work: Work, comparison: Comparison, outcomes: list[Outcome]) -> None:
    from qwen_tui.bench.throughput import difference
    from qwen_tui.bench.throughput_words import bars, table_rows, verdict
    from qwen_tui.headless.table import table

    apart = difference(outcomes)
    result = {
        "id": comparison.id,
        "work": work.to_json(),
        "backends": [one.to_json() for one in outcomes],
        "difference": {"faster": apart.faster, "slower": apart.slower, "requests_per_second": apart.requests,
                       "tokens_per_second": apart.tokens} if apart else None,
    }  # fmt: skip
    if arguments.output_json:
        Path(arguments.output_json).write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False), flush=True)
        return
    if not any(one.rounds for one in outcomes):
        return
    print()
    print("\n".join(table(table_rows(outcomes), right=(1, 2, 3))))
    print()
    print("\n".join(table(bars(outcomes, _BAR))))
    said = verdict(outcomes)
    if said:
        print(said)
    kept = ", ".join(one.run for one in outcomes if one.run)
    if kept:
        print(_("Kept as {id}").format(id=kept))
