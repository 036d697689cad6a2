"""The Ray cluster that a multi-node server would run on, as `ray status` tells it."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess

from qwen_tui.engine.find import Engine
from qwen_tui.i18n import _, ngettext
from qwen_tui.server.plan import Plan, PlanLine
from qwen_tui.server.plan_arguments import Choices
from qwen_tui.server.spec import ServerSpec

_TIMEOUT = 15.0


def wants_ray(spec: ServerSpec) -> bool:
    """Whether the server's workers are to be spread by Ray."""
    return Choices.of(spec).text("--distributed-executor-backend") == "ray"


def with_ray(plan: Plan, engine: Engine) -> Plan:
    """The plan with a line about the cluster, where the server needs one. Runs `ray status`: seconds, in a thread."""
    if not wants_ray(plan.spec):
        return plan
    return dataclasses.replace(plan, lines=(*plan.lines, ray_line(engine)))


def ray_line(engine: Engine) -> PlanLine:
    """The nodes of the cluster, or how to make one."""
    command = engine.python.parent / "ray"
    ray = str(command) if command.exists() else shutil.which("ray")
    if ray is None:
        remedy = _("Install it into the engine: {python} -m pip install ray").format(python=engine.python)
        return PlanLine("stop", "gpus", _("Ray is not there"), remedy)
    how = _("Start it: `ray start --head` on one machine, `ray start --address=THAT_MACHINE:6379` on the others")
    try:
        done = subprocess.run([ray, "status"], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return PlanLine("stop", "gpus", _("`ray status` does not answer"), how)
    except OSError as error:
        return PlanLine("stop", "gpus", _("Can't run {command}").format(command=ray), error.strerror or str(error))
    nodes = nodes_in(done.stdout)
    if done.returncode or not nodes:
        return PlanLine("stop", "gpus", _("No Ray cluster runs here"), how)
    text = ngettext("Ray has {count} node: {nodes}", "Ray has {count} nodes: {nodes}", len(nodes))
    resources = re.search(r"[\d.]+/([\d.]+) GPU", done.stdout)
    gpus = float(resources[1]) if resources else 0.0
    shown = text.format(count=len(nodes), nodes=", ".join(nodes))
    return PlanLine("ok", "gpus", shown + " · " + _("{count:g} GPUs in all").format(count=gpus))


def nodes_in(status: str) -> list[str]:
    """The active nodes in the text that `ray status` prints."""
    active = re.search(r"^Active:\n(.*?)^\S", status, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\s+\d+ (\S+)", active[1], re.MULTILINE) if active else []
