"""Ask pip what it would install, without installing it, and learn how large it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from qwen_tui.engine.pip import PipFailed, explain, progress_of, run_pip
from qwen_tui.engine.plan import InstallPlan, from_json, plan_from_report, to_json, with_sizes
from qwen_tui.errors import EngineError
from qwen_tui.i18n import _
from qwen_tui.paths import private_folder, write_private
from qwen_tui.progress import OnProgress, Progress, format_bytes

#: How long a plan is taken up again after an interruption, in seconds; afterwards the index is asked anew.
_PLAN_LIVES = 24 * 3600


def remembered(folder: Path, requirement: str, python: Path, index_options: Sequence[str]) -> InstallPlan | None:
    """The plan that an interrupted run left in `folder` for the same requirement and environment."""
    file = folder / "plan.json"
    try:
        if time.time() - file.stat().st_mtime > _PLAN_LIVES:
            return None
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["key"] != _key(requirement, python, index_options):
            return None
        return from_json(data["plan"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(requirement: str, python: Path, index_options: Sequence[str]) -> list[str]:
    """What a plan is for; another requirement, environment or index needs another plan."""
    return [requirement, str(python.parent.parent.resolve()), *index_options]


async def resolve(
    python: Path,
    requirement: str,
    folder: Path,
    log: Path,
    on_progress: OnProgress,
    *,
    cpu: bool,
    index_options: Sequence[str] = (),
    torch_cpu: Sequence[Sequence[str]] = (),
    pass_fds: Sequence[int] = (),
) -> InstallPlan:
    """The plan for `requirement`, with sizes; remembered in `folder`.

    torch_cpu: further places to look at, tried in turn when the index has no CPU build of torch.
    Raises EngineError.
    """
    private_folder(folder)
    report = folder / "report.json"
    ways = [tuple(index_options), *((*index_options, *options) for options in torch_cpu)]
    failure: PipFailed | None = None
    for options in ways:
        try:
            await _report(python, requirement, options, report, log, on_progress, pass_fds)
            break
        except PipFailed as error:
            failure = failure or error
            if not _is_about_torch(error):
                raise explain(error, log, _("Can't find the packages of {name}").format(name=requirement)) from None
    else:
        assert failure is not None
        raise explain(failure, log, _("Can't find the packages of {name}").format(name=requirement)) from None
    name = re.split(r"[=<>!~\[ ]", requirement, maxsplit=1)[0]
    try:
        plan = plan_from_report(json.loads(report.read_text(encoding="utf-8")), name, cpu=cpu)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(_("Can't read pip's report"), str(error)) from None
    on_progress(Progress(_("Asking for the sizes of {count} packages").format(count=len(plan.wheels))))
    plan = InstallPlan(await with_sizes(plan.wheels), plan.dropped)
    text = {"key": _key(requirement, python, index_options), "plan": to_json(plan)}
    write_private(folder / "plan.json", json.dumps(text))
    report.unlink(missing_ok=True)
    return plan


def _is_about_torch(failure: PipFailed) -> bool:
    return any(re.match(r"ERROR: No matching distribution found for torch\b", line) for line in failure.lines)


async def _report(
    python: Path,
    requirement: str,
    options: Sequence[str],
    report: Path,
    log: Path,
    on_progress: OnProgress,
    pass_fds: Sequence[int],
) -> None:
    """Have pip write its report. Raises PipFailed."""
    arguments = ["install", "--dry-run", "--ignore-installed", "--progress-bar", "raw", "--report", str(report)]
    # fast-deps reads a wheel's metadata by range requests where an index does not serve it apart: without it, pip
    # downloads every wheel just to look into it. It is experimental, hence the second try without.
    try:
        extra = ["--use-feature", "fast-deps", *options, requirement]
        await run_pip(python, [*arguments, *extra], log, _Collecting(on_progress).hear, pass_fds)
    except PipFailed as error:
        if not any("fast-deps" in line and "WARNING" not in line for line in error.lines) and not any(
            "Traceback" in line for line in error.lines
        ):
            raise
        await run_pip(python, [*arguments, *options, requirement], log, _Collecting(on_progress).hear, pass_fds)


class _Collecting:
    """Counts the packages that pip has come across."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._names: set[str] = set()
        self._detail = ""

    def hear(self, line: str) -> None:
        counted = progress_of(line)
        if counted is not None:
            self._tell(f"{self._detail} {format_bytes(counted[0])} / {format_bytes(counted[1])}")
            return
        match = re.match(r"\s*(?:Collecting|Processing) (\S+)", line)
        if match:
            name = match.group(1).rsplit("/", 1)[-1]
            self._detail = _plain_name(name)
            self._names.add(self._detail)
            self._tell(self._detail)
        elif "after connection broken" in line:
            self._tell(_("the index does not answer, trying again"))

    def _tell(self, detail: str) -> None:
        self._on_progress(Progress(_("Choosing packages"), len(self._names), None, "items", detail=detail))


def _plain_name(text: str) -> str:
    """'pydantic>=2.12' and 'pydantic-2.14.3-py3-none-any.whl' → 'pydantic'."""
    if text.endswith((".whl", ".tar.gz", ".zip")):
        text = text.split("-", 1)[0].replace("_", "-")
    return re.split(r"[^A-Za-z0-9._-]", text, maxsplit=1)[0].lower()
