"""The command line: parses, builds, hands over. Imports nothing heavy, so that `--help` is instant."""

from __future__ import annotations

import os
import sys

from qwen_tui import __version__, i18n
from qwen_tui.errors import QwenTuiError, UsageError
from qwen_tui.i18n import N_, _

TYPE_CHECKING = False  # what type checkers take for true; importing typing would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

#: command → (its module, what it does). A module has add_arguments(parser) and run(arguments, paths, settings).
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("qwen_tui.headless.demo", N_("from nothing to a conversation: engine, small model, server, chat")),
    "setup": ("qwen_tui.headless.setup", N_("install or repair the engine: an environment with vLLM in it")),
    "serve": ("qwen_tui.headless.serve", N_("start a vLLM server in the background and wait until it is ready")),
    "ps": ("qwen_tui.headless.ps", N_("list the servers")),
    "top": ("qwen_tui.headless.top", N_("show how loaded a server, the GPUs and this machine are")),
    "stop": ("qwen_tui.headless.stop", N_("stop a server and everything it started")),
    "flags": ("qwen_tui.headless.flags", N_("list, or search, the arguments that the engine's server takes")),
    "profiles": ("qwen_tui.headless.profiles", N_("servers kept for later: list, show, import, export, delete")),
    "models": ("qwen_tui.headless.models", N_("models, here and on the hubs: list, search, card, delete, move")),
    "fit": ("qwen_tui.headless.fit", N_("say whether a model fits this machine, and with which flags; or compare two")),
    "download": ("qwen_tui.headless.download", N_("fetch a model from ModelScope or Hugging Face, or list downloads")),
    "verify": ("qwen_tui.headless.verify", N_("check every file of a model, by size and hash")),
    "logs": ("qwen_tui.headless.logs", N_("print a server's log, or follow it")),
    "doctor": ("qwen_tui.headless.doctor", N_("check this machine; with --fix end what servers left over")),
    "diagnose": ("qwen_tui.headless.diagnose", N_("say why a server failed, from its log")),
    "endpoints": ("qwen_tui.headless.endpoints", N_("servers elsewhere: any OpenAI-compatible URL, with its key")),
    "chat": ("qwen_tui.headless.chat", N_("ask a model: one question, or line by line")),
    "complete": ("qwen_tui.headless.complete", N_("let a model continue a text, without a chat template")),
    "conversations": ("qwen_tui.headless.conversations", N_("what was said: list, search, export, import, delete")),
    "request": ("qwen_tui.headless.request", N_("a request as code: curl, Python; or sent, and the raw answer shown")),
    "batch": ("qwen_tui.headless.batch", N_("answer a file of prompts, without a server or through one; resumable")),
    "bench": ("qwen_tui.headless.bench", N_("measure how fast a server is; list and compare what was measured")),
    "throughput": ("qwen_tui.headless.throughput", N_("vLLM against transformers: one model, without a server")),
    "capacity": ("qwen_tui.headless.capacity", N_("find out how many users at once a server can bear")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run qwen-tui; the exit status. 0 done, 1 failed, 2 wrong usage, 3 refused by a server, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(words)
    except QwenTuiError as error:
        _print_error(error, as_json="--json" in words)
        return error.exit_code
    except KeyboardInterrupt:
        print(_("Interrupted"), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read this has enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(words: list[str]) -> int:
    i18n.use(i18n.choose())
    if words[:1] == ["--version"]:
        print(f"qwen-tui {__version__}")
        return 0
    from qwen_tui.paths import Paths

    paths = Paths.from_environment()
    if paths.settings_file.exists():
        from qwen_tui.settings import load

        settings = load(paths)
        i18n.use(i18n.choose(settings.language))
    else:
        settings = None
    if words[:1] in (["--help"], ["-h"], ["help"]):
        print(_help())
        return 0
    if settings is None:
        from qwen_tui.settings import Settings

        settings = Settings()
    if not words:
        from qwen_tui.ui.run import run_app

        return run_app(paths, settings)
    command, *rest = words
    if command not in COMMANDS:
        raise UsageError(
            _("There is no command “{command}”").format(command=command),
            _suggestion(command),
            _("`qwen-tui --help` lists the commands"),
        )
    import argparse
    import importlib

    module_name, summary = COMMANDS[command]
    module = importlib.import_module(module_name)
    if rest and rest[0] in (actions := getattr(module, "ACTION_MODULES", {})):
        module = importlib.import_module(actions[rest[0]])
    parser = argparse.ArgumentParser(prog=f"qwen-tui {command}", description=_(summary), allow_abbrev=False)
    module.add_arguments(parser)
    extra: list[str] = []
    if getattr(module, "TAKES_EXTRA", False) and "--" in rest:
        rest, extra = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    arguments = parser.parse_args(rest)
    arguments.extra = extra
    exit_status = int(module.run(arguments, paths, settings))
    server = getattr(arguments, "open_server", "")
    if server:
        from qwen_tui.ui.run import run_app

        return run_app(paths, settings, room="chat", server=server)
    return exit_status


def _suggestion(command: str) -> str:
    import difflib

    near = difflib.get_close_matches(command, COMMANDS, 1)
    return _("Did you mean “{near}”?").format(near=near[0]) if near else ""


def _help() -> str:
    """The text of --help, written without argparse: it is read more often than anything else here."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {_(summary)}" for name, (_module, summary) in COMMANDS.items()]
    return "\n".join(
        [
            _("usage: qwen-tui [COMMAND] [OPTIONS]"),
            "",
            _("The cockpit for running vLLM on a GPU box. Without a command it opens the screens."),
            "",
            _("commands:"),
            *lines,
            "",
            _("`qwen-tui COMMAND --help` tells a command's options; --version prints the version."),
        ]
    )


def _print_error(error: QwenTuiError, *, as_json: bool) -> None:
    """The error on stderr in plain lines; with --json also as an object on stdout."""
    if as_json:
        import json

        print(
            json.dumps({"error": {"title": error.title, "why": error.why, "hint": error.hint}}, ensure_ascii=False),
            flush=True,
        )
    from qwen_tui.logs.plain_text import harmless

    # The words may be a stranger's: the name of a file on a hub, what a server answered.
    lines = [_("qwen-tui: {title}").format(title=error.title)]
    lines += [f"  {line}" for text in (error.why, error.hint) for line in text.splitlines()]
    for line in lines:
        print(harmless(line), file=sys.stderr)
