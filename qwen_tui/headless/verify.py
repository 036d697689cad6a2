"""`qwen-tui verify`: check every file of a model, by size and hash."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from qwen_tui.i18n import _, ngettext
from qwen_tui.paths import Paths
from qwen_tui.settings import Settings

if TYPE_CHECKING:
    from qwen_tui.models.verify import Verification


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `qwen-tui verify`."""
    parser.add_argument("target", metavar="MODEL", help=_("a folder, or owner/name"))
    parser.add_argument("--hub", choices=("modelscope", "huggingface"), default="", help=_("which hub's list"))
    parser.add_argument("--endpoint", default="", metavar="URL", help=_("the hub's address, such as a mirror's"))
    parser.add_argument("--revision", default="", metavar="R", help=_("a branch, tag or commit"))
    parser.add_argument("--cache-dir", default="", metavar="DIR", help=_("the cache to look in"))
    parser.add_argument("--offline", action="store_true", help=_("ask nobody: use what is known on this machine"))
    parser.add_argument("--json", action="store_true", help=_("print JSON"))


def run(arguments: argparse.Namespace, paths: Paths, settings: Settings) -> int:
    """Check; 0 if all is good, 1 if a file is damaged or missing. Raises ModelError."""
    from qwen_tui.headless.plain import PlainProgress
    from qwen_tui.headless.running import run_interruptible
    from qwen_tui.models.verify import verify_model

    async def main() -> int:
        with PlainProgress(sys.stderr) as show:
            found = await verify_model(
                paths,
                arguments.target,
                show,
                hub=arguments.hub,
                revision=arguments.revision,
                cache_dir=arguments.cache_dir,
                endpoint=arguments.endpoint,
                offline=arguments.offline,
            )
        if arguments.json:
            print(json.dumps(found.to_json(), ensure_ascii=False))
        else:
            _print(found)
        return 0 if found.is_good else 1

    return run_interruptible(main, lambda: _("Interrupted"))


def _print(found: Verification) -> None:
    from qwen_tui.headless.download import harmless_line

    words = {"good": _("good"), "size": _("size only"), "damaged": _("damaged"), "missing": _("missing")}
    for file in found.bad:
        print(f"{words[file.verdict]}  {harmless_line(file.name)}  {file.why}".rstrip())
    against = {
        "hub": _("against the hub's list"),
        "record": _("against the hashes kept on this machine"),
        "headers": _("by the weights' headers only: no hashes are known here"),
    }[found.against]
    count = len(found.files) - len(found.bad)
    text = ngettext("{count} file is good, {against}", "{count} files are good, {against}", count)
    print(text.format(count=f"{count:,}", against=against))
    if found.extra:
        shown = ", ".join(harmless_line(name) for name in found.extra[:5]) + (", …" if len(found.extra) > 5 else "")
        print(_("Not on the list: {names}").format(names=shown))
    if found.bad:
        model = harmless_line(found.model)
        print(_("`qwen-tui download {model}` fetches these again, and nothing else").format(model=model))
