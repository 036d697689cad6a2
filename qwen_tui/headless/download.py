"""`qwen-tui download MODEL`: fetch a model, with everything known before the first byte; or manage the downloads."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import ModelError, UsageError
from qwen_tui.i18n import _, ngettext
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.models.download_queue import Downloads
    from qwen_tui.models.download_state import DownloadPlan, DownloadRequest, DownloadState
    from qwen_tui.models.tokens import Tokens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui download`."""
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help=_("owner/name on the hub"))
    parser.add_argument("--hub", choices=("modelscope", "huggingface"), default="modelscope", help=_("which hub"))
    parser.add_argument("--endpoint", default="", metavar="URL", help=_("the hub's address, such as a mirror's"))
    parser.add_argument("--revision", default="", metavar="R", help=_("a branch, tag or commit"))
    parser.add_argument("--cache-dir", default="", metavar="DIR", help=_("the cache to put it in"))
    parser.add_argument("--include", action="append", default=[], metavar="GLOB", help=_("only these files"))
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB", help=_("not these files"))
    token = parser.add_mutually_exclusive_group()
    token.add_argument("--token-stdin", action="store_true", help=_("read a token from standard input, and keep it"))
    token.add_argument("--token-env", metavar="NAME", help=_("take a token from this variable, and keep it"))
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--plan", action="store_true", help=_("only say what it would fetch"))
    action.add_argument("--detach", action="store_true", help=_("do not wait: it goes on by itself"))
    action.add_argument("--list", action="store_true", help=_("list the downloads"))
    action.add_argument("--pause", action="store_true", help=_("pause the download of MODEL"))
    action.add_argument("--cancel", action="store_true", help=_("end it, and delete its unfinished files"))
    parser.add_argument("--json", action="store_true", help=_("print JSON"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Do it; 0 done, 130 paused by Ctrl-C. Raises ModelError, UsageError."""
    if arguments.list or arguments.pause or arguments.cancel:
        return _manage(arguments, paths)
    if not arguments.model:
        raise UsageError(_("Which model?"), "", _("`qwen-tui download qwen/Qwen2-7B-Instruct`, for example"))
    from qwen_tui.models.head_start import HeadStart
    from qwen_tui.models.tokens import Tokens

    request, tokens = _request(arguments), Tokens(paths)
    _keep_token(tokens, request, arguments)
    head_start = HeadStart(paths, request)  # now: what is imported below takes as long as these take to come up
    try:
        from qwen_tui.headless.running import run_interruptible
        from qwen_tui.models.download_queue import Downloads

        downloads = Downloads(paths, head_start=head_start)
        started: list[str] = []
        return run_interruptible(
            lambda: _fetch(downloads, tokens, request, arguments, started),
            lambda: _("Paused. The same command goes on from here") if started else _("Interrupted"),
        )
    finally:
        head_start.close()


def _manage(arguments: argparse.Namespace, paths: Paths) -> int:
    from qwen_tui.models.download_queue import Downloads

    downloads = Downloads(paths)
    if arguments.list:
        _print_list(downloads.list(), arguments.json)
        return 0
    if not arguments.model:
        raise UsageError(_("Which model?"))
    import asyncio

    return asyncio.run(_end(downloads, arguments))


def _request(arguments: argparse.Namespace) -> DownloadRequest:
    from pathlib import Path

    from qwen_tui.models.download_state import DownloadRequest

    return DownloadRequest(
        arguments.model,
        arguments.hub,
        arguments.revision,
        str(Path(arguments.cache_dir).expanduser().absolute()) if arguments.cache_dir else "",
        tuple(arguments.include),
        tuple(arguments.exclude),
        arguments.endpoint,
    )


async def _fetch(
    downloads: Downloads, tokens: Tokens, request: DownloadRequest, arguments: argparse.Namespace, started: list[str]
) -> int:
    """started: gets the id of the download once there is one."""
    from qwen_tui.models.download import refuse_small_disk

    if not arguments.json:
        print(_("Asking the hub for {model}").format(model=request.model), file=sys.stderr)
    plan = await _plan(downloads, tokens, request)
    if arguments.plan:
        _print_plan(plan, arguments.json)
        return 0 if plan.fits else 1
    if not arguments.json:
        print(_plan_line(plan), file=sys.stderr)
    refuse_small_disk(plan)
    if not plan.files:
        raise ModelError(
            _("There is nothing to download"),
            _("No file of {model} is left by what is included and excluded").format(model=request.model),
        )
    id = await downloads.start(request)
    started.append(id)
    if arguments.detach:
        text = _("It goes on by itself. `qwen-tui download --list` says how far it is")
        print(json.dumps({"id": id}) if arguments.json else text)
        return 0
    state = await _wait(downloads, id)
    if arguments.json:
        print(json.dumps(_as_json(state), ensure_ascii=False))
    else:
        print(state.folder)
    return 0


async def _wait(downloads: Downloads, id: str) -> DownloadState:
    """Show how it goes until it is done. Cancelled, it is paused. Raises ModelError."""
    import asyncio

    from qwen_tui.headless.plain import PlainProgress
    from qwen_tui.models.download import as_progress, follow, result

    # The terminal is lost: nobody asked for an end, and the download does not need this process.
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, os._exit, 128 + signal.SIGHUP)
    try:
        with PlainProgress(sys.stderr) as show:
            async for state in follow(downloads, id):
                show(as_progress(state))
            result(state)
    except asyncio.CancelledError:
        await asyncio.shield(downloads.pause(id))
        raise
    await downloads.remove(id)
    return state


async def _plan(downloads: Downloads, tokens: Tokens, request: DownloadRequest) -> DownloadPlan:
    """The plan; where a token is needed and a person is there, it is asked for once."""
    import asyncio
    import getpass

    from qwen_tui.models.tokens import TokenNeeded

    try:
        return await downloads.plan(request)
    except TokenNeeded as error:
        if sys.stdin is None or not sys.stdin.isatty():
            raise TokenNeeded(
                error.title, error.why, _("{hint}; --token-stdin reads it").format(hint=error.hint)
            ) from None
        print(error.title, file=sys.stderr)
        token = await asyncio.to_thread(getpass.getpass, _("Token (not shown; empty to give up): "))
        if not token.strip():
            raise
    tokens.save(request.hub_facts, token, request.endpoint)
    return await downloads.plan(request)


def _keep_token(tokens: Tokens, request: DownloadRequest, arguments: argparse.Namespace) -> None:
    token = ""
    if arguments.token_stdin:
        token = sys.stdin.readline()
    elif arguments.token_env:
        token = os.environ.get(arguments.token_env, "")
        if not token:
            raise UsageError(_("{variable} is not set").format(variable=arguments.token_env))
    if token.strip():
        tokens.save(request.hub_facts, token, request.endpoint)


async def _end(downloads: Downloads, arguments: argparse.Namespace) -> int:
    """Pause or cancel every download of this model that is not over."""
    from qwen_tui.progress import format_bytes

    chosen = [state for state in downloads.list() if state.model == arguments.model and not state.status.is_over]
    for state in chosen:
        if arguments.pause:
            await downloads.pause(state.id)
            print(_("{model} is paused").format(model=state.model))
        else:
            freed = await downloads.cancel(state.id)
            await downloads.remove(state.id)
            words = _("{model} is cancelled, {freed} are free again")
            print(words.format(model=state.model, freed=format_bytes(freed)))
    if not chosen:
        print(_("There is no download of {model}").format(model=arguments.model), file=sys.stderr)
    return 0 if chosen else 1


# -- printing --------------------------------------------------------------------------------------


def harmless_line(text: str) -> str:
    """`text` without control characters: the names of files are a stranger's words."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _plan_line(plan: DownloadPlan) -> str:
    from qwen_tui.progress import format_bytes

    count = len(plan.files)
    words = ngettext(
        "{count} file, {total}; {missing} to fetch, {free} free, into {folder}",
        "{count} files, {total}; {missing} to fetch, {free} free, into {folder}",
        count,
    )
    return words.format(
        count=f"{count:,}",
        total=format_bytes(plan.total),
        missing=format_bytes(plan.missing),
        free=format_bytes(plan.free),
        folder=plan.folder,
    )


def _print_plan(plan: DownloadPlan, as_json: bool) -> None:
    from qwen_tui.progress import format_bytes

    if as_json:
        print(json.dumps(_plan_as_json(plan), ensure_ascii=False))
        return
    for file in plan.files:
        there = "" if not file.present else _("there") if file.present == file.size else format_bytes(file.present)
        print(f"{format_bytes(file.size):>9}  {harmless_line(file.name)}  {there}".rstrip())
    print(_plan_line(plan))


def _plan_as_json(plan: DownloadPlan) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "folder": str(plan.folder),
        "commit": plan.commit,
        "total": plan.total,
        "present": plan.present,
        "free": plan.free,
        "reserve": plan.reserve,
        "fits": plan.fits,
        "files": [asdict(file) for file in plan.files],
    }


def _print_list(states: tuple[DownloadState, ...], as_json: bool) -> None:
    from qwen_tui.headless.plain import figures
    from qwen_tui.models.download import as_progress

    if as_json:
        print(json.dumps([_as_json(state) for state in states], ensure_ascii=False))
        return
    if not states:
        print(_("No downloads"))
    for state in states:
        shown = figures(as_progress(state)) if state.total is not None else ""
        why = state.problem.title if state.problem is not None else ""
        print(harmless_line("  ".join(part for part in (state.model, state.status.value, shown, why) if part)))


def _as_json(state: DownloadState) -> dict[str, Any]:
    problem = state.problem
    return {
        "id": state.id,
        "model": state.model,
        "hub": state.request.hub,
        "status": state.status.value,
        "folder": str(state.folder) if state.folder is not None else None,
        "commit": state.commit,
        "done": state.done,
        "total": state.total,
        "fetched": state.fetched,
        "seconds": round(state.seconds, 3),
        "rate": state.rate,
        "eta": state.eta,
        "stall": state.stall.reason if state.stall is not None else None,
        "error": {"title": problem.title, "why": problem.why, "hint": problem.hint} if problem is not None else None,
    }
