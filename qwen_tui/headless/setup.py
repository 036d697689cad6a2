"""`qwen-tui setup`: build, finish or repair the managed engine, then prove it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_tui.errors import UsageError
from qwen_tui.i18n import _, language
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.engine.install import InstallRequest, InstallResult
    from qwen_tui.engine.mirrors import Mirror


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """What `setup` and `demo` both take about the engine to install."""
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--cpu", action="store_true", help=_("install vLLM's CPU build"))
    kind.add_argument("--cuda", action="store_true", help=_("install vLLM's CUDA build"))
    parser.add_argument("--index-url", default="", metavar="URL", help=_("the package index to install from"))
    parser.add_argument("--mirror", default="", metavar="NAME", help=_("a well-known index by name; “list” shows them"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui setup`."""
    add_engine_arguments(parser)
    parser.add_argument(
        "--extra-index-url", action="append", default=[], metavar="URL", help=_("a further index to look at")
    )
    parser.add_argument("--path", default="", metavar="DIR", help=_("the folder of the environment"))
    parser.add_argument("--python", default="", metavar="PYTHON", help=_("the interpreter to build it with"))
    parser.add_argument("--version", default="", metavar="X", help=_("the version of vLLM"))
    parser.add_argument(
        "--write-pip-config", action="store_true", help=_("make the chosen index pip's own setting for this user")
    )
    parser.add_argument("--yes", action="store_true", help=_("ask nothing"))
    parser.add_argument("--json", action="store_true", help=_("print the result as JSON"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Install or repair; 0 when the engine is proved. Raises EngineError, UsageError."""
    from qwen_tui.headless.running import run_interruptible

    if arguments.mirror == "list":
        print_mirrors()
        return 0
    asks = sys.stdin.isatty() and sys.stderr.isatty() and not arguments.yes and not arguments.json
    index_url = chosen_index(arguments, settings)
    if not index_url and asks and language() == "zh_CN" and not arguments.mirror:
        index_url = _ask_mirror()
    if index_url and (arguments.write_pip_config or (asks and index_url != settings.index_url)):
        _offer_pip_config(index_url, ask=asks)
    request = _request(arguments, paths, index_url)

    return run_interruptible(
        lambda: _setup(request, paths, as_json=arguments.json),
        lambda: _("Stopped. `qwen-tui setup` goes on from here"),
    )


def chosen_index(arguments: argparse.Namespace, settings: Settings) -> str:
    """The URL of the index that the options or the settings name; empty leaves it to pip. Raises UsageError."""
    from qwen_tui.engine.mirrors import mirror_named

    if arguments.index_url and arguments.mirror:
        raise UsageError(_("--index-url and --mirror name two indexes; give one"))
    if arguments.mirror:
        return mirror_named(arguments.mirror).index_url
    url = str(arguments.index_url or settings.index_url)
    if url and "://" not in url:
        raise UsageError(_("--index-url takes a URL such as https://pip.example/simple, not “{url}”").format(url=url))
    return url


def wants_cpu(arguments: argparse.Namespace) -> bool | None:
    """True for --cpu, False for --cuda, None where neither was given."""
    return True if arguments.cpu else False if arguments.cuda else None


def _request(arguments: argparse.Namespace, paths: Paths, index_url: str) -> InstallRequest:
    from dataclasses import replace

    from qwen_tui.engine.install import default_request

    folder = Path(arguments.path).expanduser().absolute() if arguments.path else paths.managed_engine
    request = default_request(folder, cpu=wants_cpu(arguments), index_url=index_url)
    return replace(
        request,
        version=arguments.version or request.version,
        extra_index_urls=tuple(arguments.extra_index_url),
        python=arguments.python,
    )


async def _setup(request: InstallRequest, paths: Paths, *, as_json: bool) -> int:
    from qwen_tui.engine.install import install
    from qwen_tui.headless.plain import PlainProgress

    print(
        _("Installing {what} into {folder}").format(what=request.requirement, folder=request.folder),
        file=sys.stderr,
        flush=True,
    )
    with PlainProgress(sys.stderr) as show:
        result = await install(paths, request, show)
    if request.folder != paths.managed_engine:
        from qwen_tui.settings import save

        save(paths, engine=str(request.folder))
    if as_json:
        print(json.dumps(_as_json(result), ensure_ascii=False), flush=True)
        return 0
    print(summary(result))
    if request.folder != paths.managed_engine:
        print(_("The setting `engine` now names {folder}").format(folder=request.folder))
    return 0


def summary(result: InstallResult) -> str:
    """Two or three lines for a person: what is there now, what was left out, what was mended."""
    from qwen_tui.progress import format_bytes, format_seconds

    report = result.report
    lines = [
        _("The engine works: vLLM {vllm} for {platform}, torch {torch}, Python {python}, in {folder}").format(
            vllm=report.vllm,
            platform=report.platform.upper(),
            torch=report.torch,
            python=report.python,
            folder=result.engine.python.parent.parent,
        )
    ]
    if not result.was_ready:
        lines.append(
            _("{count} packages, {size}, in {time}").format(
                count=result.packages, size=format_bytes(result.downloaded), time=format_seconds(result.seconds)
            )
        )
    if result.dropped:
        lines.append(_("Left out, as a CPU engine does not need them: {names}").format(names=", ".join(result.dropped)))
    lines += [_("Repaired: {what}").format(what=what) for what in result.repaired]
    return "\n".join(lines)


def _as_json(result: InstallResult) -> dict[str, Any]:
    return {
        "python": str(result.engine.python),
        "version": result.engine.version,
        "platform": result.engine.platform,
        "torch": result.report.torch,
        "transformers": result.report.transformers,
        "python_version": result.report.python,
        "packages": result.packages,
        "bytes": result.downloaded,
        "seconds": round(result.seconds, 3),
        "dropped": list(result.dropped),
        "repaired": result.repaired,
        "was_ready": result.was_ready,
    }


def print_mirrors() -> None:
    """The well-known indexes: name, URL, who runs it."""
    from qwen_tui.engine.mirrors import MIRRORS

    width = max(len(mirror.name) for mirror in MIRRORS)
    for mirror in MIRRORS:
        print(f"{mirror.name:<{width}}  {mirror.index_url or '-':<55}  {_(mirror.title)}")


def _ask_mirror() -> str:
    """The index that the person at the terminal chooses; empty for pip's own setting."""
    from qwen_tui.engine.mirrors import MIRRORS

    print(_("Where to install from?"), file=sys.stderr)
    for number, mirror in enumerate(MIRRORS):
        print(f"  {number}  {mirror.name:<8} {_(mirror.title)}", file=sys.stderr)
    while True:
        answer = _ask(_("Number or name, enter for {name}:").format(name=MIRRORS[0].name))
        if not answer:
            return MIRRORS[0].index_url
        found: list[Mirror] = [
            mirror for number, mirror in enumerate(MIRRORS) if answer.lower() in (str(number), mirror.name)
        ]
        if found:
            return found[0].index_url


def _offer_pip_config(index_url: str, *, ask: bool) -> None:
    """Write `index_url` into pip's own settings, if the person agrees."""
    if ask:
        question = _("Shall pip use {url} from now on, for you as a user? [y/N]").format(url=index_url)
        if _ask(question).lower() not in ("y", "yes", "是"):
            return
    import subprocess

    from qwen_tui.errors import EngineError

    command = [sys.executable, "-m", "pip", "config", "--user", "set", "global.index-url", index_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(_("Can't write pip's setting"), (done.stderr.strip().splitlines() or [""])[-1])
    print(done.stdout.strip(), file=sys.stderr)


def _ask(question: str) -> str:
    print(question, end=" ", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        print(file=sys.stderr)
    return line.strip()
