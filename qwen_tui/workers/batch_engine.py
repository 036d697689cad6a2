"""A batch through `vllm.LLM`, without a server. Under the engine's interpreter: standard library and vllm only.

The whole input flows through one continuous batch: the engine always has as many requests waiting as it can take up,
never all of them, and each row is written when it is finished. So memory does not grow with the input.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import batch_job
    from qwen_tui.workers.batch_job import Job, JobError
    from qwen_tui.workers.batch_parameters import ParameterError, Parameters
    from qwen_tui.workers.batch_rows import Row
else:
    import batch_job
    from batch_job import Job, JobError
    from batch_parameters import ParameterError, Parameters

#: Requests in the engine at once, for each that it works on at a time: so that its queue never runs dry.
QUEUE_FACTOR = 2
#: Seconds of one round that go into new requests, while others wait for their next token.
FEED_SECONDS = 0.05
_PROMPT_FIELDS = ("chat_template_kwargs", "tools")


def make_engine(words: list[str]) -> Any:
    """vllm.LLM from the command line arguments of the engine. Raises JobError for wrong ones."""
    from vllm import LLM, EngineArgs

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:
        from vllm.utils import FlexibleArgumentParser
    parser = EngineArgs.add_cli_args(FlexibleArgumentParser(prog="qwen-tui batch"))
    try:
        given = parser.parse_args(words)
    except SystemExit:
        raise JobError("arguments") from None  # argparse has said why, in the log
    # Not EngineArgs' own values: making one looks its model up, on the hub too.
    defaults = parser.parse_args([])
    fields = {item.name for item in dataclasses.fields(EngineArgs)} & vars(given).keys()
    chosen = {name: getattr(given, name) for name in fields if getattr(given, name) != getattr(defaults, name)}
    return LLM(**{"model": given.model, **chosen})


class EngineBatch:
    """One run through the engine."""

    def __init__(self, job: Job, llm: Any) -> None:
        self.job = job
        self.engine = llm.llm_engine
        self.tokenizer = llm.get_tokenizer()
        config = getattr(self.engine, "vllm_config", None) or self.engine
        self.longest = int(config.model_config.max_model_len)
        self.capacity = max(8, QUEUE_FACTOR * int(config.scheduler_config.max_num_seqs))
        self.longest_token = self._longest_token()
        self.template = _template(job.order.get("chat_template", ""))
        self.lora = _lora(job.order.get("lora", ""))
        base = {**_model_defaults(llm), **job.order["sampling"]}
        self.template_options = base.pop("chat_template_kwargs", {})
        try:
            self.parameters = Parameters(base)
        except ParameterError as error:
            raise JobError("parameters", str(error)) from None
        self.waiting: dict[str, tuple[Row, int, float, float]] = {}

    def run(self) -> None:
        """Until the input is at its end or a stop is asked for."""
        rows = self.job.rows()
        more = True
        while (more or self.waiting) and not self.job.stop:
            more = more and self._feed(rows)
            if self.waiting:
                for output in self.engine.step():
                    if output.finished:
                        self._take(output)
            self.job.tick(len(self.waiting))
        if self.job.stop and self.waiting:
            self.engine.abort_request(list(self.waiting))

    def _feed(self, rows: Iterator[Row]) -> bool:
        """Fill the engine's queue; False once the input is at its end."""
        deadline = time.monotonic() + FEED_SECONDS
        while len(self.waiting) < self.capacity and not self.job.stop:
            row = next(rows, None)
            if row is None:
                return False
            self._add(row)
            if self.waiting and time.monotonic() > deadline:
                break
        return True

    def _add(self, row: Row) -> None:
        try:
            own = {name: value for name, value in row.parameters.items() if name not in _PROMPT_FIELDS}
            parameters = self.parameters.of(own)
            tokens = self._tokens(row)
            if tokens is None or len(tokens) >= self.longest:
                count = f"> {self.longest}" if tokens is None else str(len(tokens))
                self.job.add_bad(row, "too_long", f"{count} / {self.longest}")
                return
            extra = {"lora_request": self.lora} if self.lora is not None else {}
            self.engine.add_request(str(row.line), {"prompt_token_ids": tokens}, parameters, **extra)
        except ParameterError as error:
            self.job.add_bad(row, "bad_parameter", str(error))
        except Exception as error:
            if not _is_refusal(error):
                raise
            self.job.add_bad(row, "refused", str(error))
        else:
            self.waiting[str(row.line)] = (row, len(tokens), time.time(), time.monotonic())

    def _tokens(self, row: Row) -> list[int] | None:
        """The prompt's tokens; None where it is too long beyond doubt, and not worth the work."""
        if row.messages is not None:
            options = {**self.template_options, **row.parameters.get("chat_template_kwargs", {})}
            if "tools" in row.parameters:
                options["tools"] = row.parameters["tools"]
            if self.template:
                options["chat_template"] = self.template
            text = self.tokenizer.apply_chat_template(
                row.messages, tokenize=False, add_generation_prompt=True, **options
            )
            special = {"add_special_tokens": False}
        else:
            text, special = row.prompt or "", {}
        if isinstance(text, list):
            return text  # a tokenizer whose template makes tokens, whatever it is asked for
        if len(text) > self.longest * self.longest_token:
            return None
        return list(self.tokenizer.encode(text, **special))

    def _longest_token(self) -> int:
        """The most characters that one token of the vocabulary stands for; a bound, not a measure."""
        try:
            return max(8, *(len(token) for token in self.tokenizer.get_vocab()))
        except (AttributeError, TypeError, ValueError):
            return 1024

    def _take(self, output: Any) -> None:
        row, prompt_tokens, sent_at, sent = self.waiting.pop(output.request_id)
        choices = [_choice(one) for one in sorted(output.outputs, key=lambda one: one.index)]
        count = sum(len(one.token_ids) for one in output.outputs)
        first = choices[0]
        answer = {
            "text": first["text"],
            "finish_reason": first["finish_reason"],
            "stop_reason": first["stop_reason"],
            "prompt_tokens": prompt_tokens,
            "output_tokens": count,
            "started_at": round(sent_at, 3),
            "seconds": round(time.monotonic() - sent, 4),
        }
        if len(choices) > 1:
            answer["choices"] = choices
        elif "logprobs" in first:
            answer["logprobs"] = first["logprobs"]
        self.job.add(row, answer, self._body(row, choices, prompt_tokens, count, sent_at))

    def _body(
        self, row: Row, choices: list[dict[str, Any]], prompt_tokens: int, count: int, sent_at: float
    ) -> dict[str, Any]:
        """OpenAI's response body for the row."""
        is_chat = row.messages is not None
        return {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{row.line}",
            "object": "chat.completion" if is_chat else "text_completion",
            "created": int(sent_at),
            "model": self.job.order["model"],
            "choices": [_openai_choice(number, choice, is_chat) for number, choice in enumerate(choices)],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": count,
                "total_tokens": prompt_tokens + count,
            },
        }


def _openai_choice(number: int, choice: dict[str, Any], is_chat: bool) -> dict[str, Any]:
    said = {"message": {"role": "assistant", "content": choice["text"]}} if is_chat else {"text": choice["text"]}
    end = {"finish_reason": choice["finish_reason"], "stop_reason": choice["stop_reason"]}
    chances = choice.get("logprobs")
    return {"index": number, **said, "logprobs": {"content": chances} if chances is not None else None, **end}


def _choice(output: Any) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "text": output.text,
        "finish_reason": output.finish_reason,
        "stop_reason": output.stop_reason,
        "output_tokens": len(output.token_ids),
    }
    if output.logprobs:
        choice["logprobs"] = [
            _chance(int(token), chances) for token, chances in zip(output.token_ids, output.logprobs, strict=False)
        ]
    return choice


def _chance(token: int, chances: dict[int, Any]) -> dict[str, Any]:
    """One token in OpenAI's shape."""
    listed = [{"token": one.decoded_token, "logprob": one.logprob} for one in chances.values()]
    own = chances.get(token)
    return {
        "token": own.decoded_token if own is not None else None,
        "logprob": own.logprob if own is not None else None,
        "top_logprobs": listed,
    }


def _is_refusal(error: Exception) -> bool:
    """Whether vLLM, the tokenizer or the template refused this one request; else the engine itself is in trouble."""
    names = {base.__name__ for base in type(error).__mro__}
    if names & {"EngineDeadError", "EngineGenerateError", "OutOfMemoryError"}:
        return False
    wanted = {"VLLMClientError", "TemplateError", "ValidationError"}
    return isinstance(error, ValueError | TypeError | NotImplementedError | KeyError) or bool(names & wanted)


def _model_defaults(llm: Any) -> dict[str, Any]:
    """What the model's generation_config says, where this vLLM reads it."""
    try:
        return dict(llm.llm_engine.model_config.get_diff_sampling_param())
    except AttributeError:
        return {}


def _template(path: str) -> str:
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return file.read()
    except (OSError, ValueError) as error:
        raise JobError("template", str(error)) from None


def _lora(path: str) -> Any:
    if not path:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(os.path.basename(path.rstrip("/")) or "lora", 1, path)  # noqa: PTH119


def _work(job: Job) -> None:
    # An order that has nothing left to do needs no engine.
    if next(job.rows(), None) is None:
        job.begin()
        return
    llm = make_engine(job.order["arguments"])
    batch = EngineBatch(job, llm)
    job.begin()
    try:
        batch.run()
    finally:
        job.end_work()
        _end_engine(llm)


def _end_engine(llm: Any) -> None:
    """Have the engine's processes end; the keeper ends what stays."""
    core: Any = getattr(llm.llm_engine, "engine_core", None)
    if core is not None and hasattr(core, "shutdown"):
        core.shutdown()


if __name__ == "__main__":
    # Processes that the engine forks or spawns must not run this again.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(batch_job.main(_work))
