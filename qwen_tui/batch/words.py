"""What the workers say in codes, in sentences."""

from __future__ import annotations

from pathlib import Path

from qwen_tui.errors import UsageError
from qwen_tui.i18n import N_, _

#: Why a row got no answer.
ROW_WORDS: dict[str, str] = {
    "not_json": N_("not JSON"),
    "not_csv": N_("not CSV"),
    "not_utf8": N_("not UTF-8"),
    "no_prompt": N_("no prompt in it"),
    "bad_message": N_("a message without role or content"),
    "not_supported": N_("asks for what a batch can't do"),
    "too_long_line": N_("a line of more than 64 MB"),
    "duplicate_id": N_("an id that an earlier row has"),
    "too_long": N_("longer than the model's context"),
    "bad_parameter": N_("a sampling parameter that can't be"),
    "refused": N_("refused"),
    "failed": N_("failed again and again"),
    "no_answer": N_("an answer that is none"),
}
#: Why a batch failed: what happened, and what to do.
_JOB_WORDS: dict[str, tuple[str, str]] = {
    "arguments": (N_("The engine does not take these arguments"), N_("`qwen-tui flags` lists what it takes")),
    "parameters": (
        N_("A sampling parameter can't be used"),
        N_("What vLLM's SamplingParams has can be given by name, in --extra-body too"),
    ),
    "template": (N_("The chat template can't be read"), ""),
    "input_changed": (N_("The input was changed meanwhile"), N_("Start the batch again")),
    "unreadable": (N_("The input can't be read"), ""),
    "no_file": (
        N_("The input is no ordinary file"),
        N_("A pipe can't be read twice: write it to a file first, or pipe prompts into `qwen-tui batch` itself"),
    ),
    "utf16": (N_("The input is UTF-16"), N_("Convert it: iconv -f UTF-16 -t UTF-8")),
    "no_column": (N_("The CSV file has no such column"), N_("--column names the one with the prompts")),
    "same_file": (N_("The output would be written over the input"), N_("Choose another --output")),
    "no_output": (N_("The output is no ordinary file"), N_("Choose another --output")),
    "in_use": (
        N_("Another batch writes to this output now"),
        N_("`qwen-tui batch list` shows it, `qwen-tui batch attach` follows it"),
    ),
    "not_ours": (N_("The output holds something else"), N_("Choose another --output, or --overwrite")),
    "unwritable": (
        N_("The output can't be written"),
        N_("Make room, or choose another disk; run it again and it goes on"),
    ),
    "unreachable": (N_("The server does not answer"), N_("Is it running? Run the batch again and it goes on")),
    "http": (N_("The server refused"), N_("Check the URL, the model's name and the key (VLLM_API_KEY)")),
    "exception": (N_("The engine failed"), N_("Run the batch again and it goes on where it stopped")),
    "killed": (N_("It was killed"), N_("Run the batch again and it goes on where it stopped")),
}


def row_words(code: str) -> str:
    """Why a row got no answer, translated."""
    return _(ROW_WORDS[code]) if code in ROW_WORDS else code


def job_words(code: str) -> tuple[str, str]:
    """Why a batch failed and what to do, translated."""
    title, hint = _JOB_WORDS.get(code, _JOB_WORDS["exception"])
    return _(title), _(hint) if hint else ""


def input_error(code: str, detail: str, path: Path) -> UsageError:
    """An input that can't be one, as an error."""
    title, hint = job_words(code)
    return UsageError(title, detail or str(path), hint)
