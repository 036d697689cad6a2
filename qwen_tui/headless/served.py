"""`qwen-tui models --served`: what a server says at /v1/models."""

from __future__ import annotations

import argparse
import asyncio

from qwen_tui.errors import ChatError
from qwen_tui.headless.request_arguments import any_character, choose_server
from qwen_tui.i18n import _
from qwen_tui.paths import Paths


def print_served(arguments: argparse.Namespace, paths: Paths) -> int:
    """Ask the server that the arguments name and print its models; the exit status. Raises ChatError, ServerError."""
    from qwen_tui.chat import failures
    from qwen_tui.chat.harmless import harmless_json
    from qwen_tui.chat.request_answer import send
    from qwen_tui.chat.request_code import models_request

    any_character()
    arguments.model = "-"  # a server elsewhere would else be asked for its models twice
    target = asyncio.run(choose_server(arguments, paths)).target
    answer = asyncio.run(send(models_request(target), target.api_key))
    if answer.status != 200:
        raise failures.from_status(answer.status, answer.body, target)
    found = answer.decoded
    models = found.get("data") if isinstance(found, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) and "id" in model for model in models):
        raise failures.not_an_answer(failures.readable(answer.body))
    if arguments.json:
        print(harmless_json(models))
        return 0
    if not models:
        raise ChatError(_("{url} serves no model").format(url=target.base_url))
    _print(models)
    return 0


def _print(models: list[dict[str, object]]) -> None:
    from qwen_tui.chat.harmless import harmless
    from qwen_tui.headless.table import table

    rows = [(_("MODEL"), _("CONTEXT"), _("FROM"))]
    for model in models:
        context = model.get("max_model_len")
        root = model.get("parent") or model.get("root") or "–"
        shown = f"{context:,}" if isinstance(context, int) else "–"
        rows.append((harmless(str(model["id"])), shown, harmless(str(root))))
    for line in table(rows, right=(1,)):
        print(line)
