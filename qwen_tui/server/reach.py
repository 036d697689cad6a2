"""How a person on another machine gets to a server on this one, and what a start should warn of."""

from __future__ import annotations

import getpass
import os
import shlex
import socket
from collections.abc import Mapping

from qwen_tui.i18n import _
from qwen_tui.server.spec import ServerSpec


def ssh_line(spec: ServerSpec, environment: Mapping[str, str] = os.environ) -> str:
    """The command that, run on the person's own machine, makes the server reachable there on the same port.

    The address is the one that this SSH session came in by, else this machine's name.
    """
    there = "127.0.0.1" if spec.host in ("0.0.0.0", "localhost", "::") else spec.host
    forward = f"{spec.port}:{f'[{there}]' if ':' in there else there}:{spec.port}"
    # client address, client port, server address, server port; source: ssh(1)
    session = environment.get("SSH_CONNECTION", "").split()
    address, port = (session[2], session[3]) if len(session) == 4 else (socket.gethostname(), "22")
    words = ["ssh", "-N", *(["-p", port] if port != "22" else []), "-L", forward, f"{_user()}@{address}"]
    return shlex.join(words)


def is_remote_session(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the person sits at another machine."""
    return bool(environment.get("SSH_CONNECTION"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container's user without a name


def warnings(spec: ServerSpec) -> list[str]:
    """What a person should know before this server starts, a translated line or two each."""
    found = []
    if _switched_on(spec.extra_args, "--trust-remote-code"):
        found.append(
            _(
                "--trust-remote-code: Python files that come with the model will run with all your rights. "
                "Use it only for a source that you trust"
            )
        )
    if not spec.is_loopback:
        found.append(
            _(
                "{host}: other machines can reach this server. The key guards /v1 only and travels unencrypted; "
                "127.0.0.1 with ssh -L is safer"
            ).format(host=spec.host)
        )
    return found


def _switched_on(words: tuple[str, ...], option: str) -> bool:
    names = {word.split("=", 1)[0].replace("_", "-"): word.partition("=")[2] for word in words}
    return names.get(option, "false").lower() not in ("false", "0", "no")
