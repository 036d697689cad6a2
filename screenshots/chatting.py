"""Makes the pictures of what Chat tells of a reply: `python -m screenshots.chatting`, also done by `screenshots.make`.

Needs what `qwen-tui demo` leaves behind. Talks to the demo model on its CPU engine: the tokens of a reply with their
probabilities, one question asked twice with different sampling, and a request as code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from qwen_tui.engine.find import find_engine
from qwen_tui.models import demo_model
from qwen_tui.paths import Paths, write_private
from qwen_tui.server.launch import free_port
from tests.terminal import Terminal

FOLDER = Path(__file__).parent
PROGRAM = Path(sys.executable).parent / "qwen-tui"
SIZE = (128, 34)
MODEL = "SmolLM2-135M-Instruct"
QUESTION = "Explain in one paragraph why the sky is blue."
COMPARED = "Write the first two sentences of a story about a lighthouse."
#: The temperature of each side of the comparison, and how many tokens both may take.
TEMPERATURES = ("0", "0.8")
MOST_TOKENS = "200"


def save(terminal: Terminal, name: str) -> None:
    terminal.settle()
    (FOLDER / f"{name}.svg").write_text(terminal.svg("qwen-tui"), encoding="utf-8")
    print(f"{name}.svg", flush=True)


def tokens(terminal: Terminal) -> None:
    """Ask, and look at the reply's tokens, the cursor on the least certain one."""
    terminal.type(QUESTION)
    terminal.press("enter")
    terminal.wait_for(r"TTFT [\d,.]+ m?s · ", 120)
    terminal.press("esc", "v")
    terminal.wait_for("r +ask the server")
    terminal.press("r")
    terminal.wait_for("perplexity", 120)
    terminal.press("n")
    terminal.wait_for(r"token [2-9]|token \d\d")
    save(terminal, "tokens-en")
    terminal.press("esc")
    terminal.wait_gone("perplexity")


def request(terminal: Terminal) -> None:
    """The request of that reply as a script for the openai package."""
    terminal.press("o")
    terminal.wait_for("curl ")
    terminal.press("tab")
    terminal.wait_for("from openai import|import openai")
    save(terminal, "request-en")
    terminal.press("esc")
    terminal.wait_gone("from openai import|import openai")


def compare(terminal: Terminal) -> None:
    """A new conversation, asked of the same model with two samplings, side by side."""
    terminal.press("n")
    terminal.wait_for("is ready")
    terminal.press("esc", "=")
    terminal.wait_for("Message to both")
    terminal.press("esc")
    for side, temperature in zip(("left", "right"), TEMPERATURES, strict=True):
        terminal.press(side, ",")
        terminal.wait_for("How replies are drawn")
        terminal.type(temperature)
        terminal.press(*["tab"] * 4)  # over top_p, top_k and min_p
        terminal.wait_for("max_tokens: ")
        terminal.type(MOST_TOKENS)
        terminal.press("ctrl+s")
        terminal.wait_for(rf"temperature {temperature}[.\d]*, max_tokens {MOST_TOKENS}")
    terminal.press("i")
    terminal.wait_for("enter +send")
    terminal.type(COMPARED)
    terminal.press("enter")
    terminal.wait_for(r"tokens · (stop|length)[^\n]*tokens · (stop|length)", 180)
    save(terminal, "compare-en")
    terminal.press("esc", "esc")
    terminal.wait_gone("Message to both")


def pictures(environment: Mapping[str, str]) -> None:
    """All three; the server of the demo model must be ready in the folders that `environment` names."""
    with Terminal([str(PROGRAM)], {**environment, "LANG": "C.UTF-8"}, *SIZE) as terminal:
        terminal.wait_for("● SmolLM2 +ready")
        terminal.press("c")
        terminal.wait_for(f"Message to {MODEL} ─")
        tokens(terminal)
        request(terminal)
        compare(terminal)


def main() -> None:
    own = Paths.from_environment()
    engine = find_engine(own)
    model = own.models / demo_model.NAME
    if not model.is_dir():
        sys.exit("run `qwen-tui demo --headless` first: it makes the model")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = {
            "XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state"),
            "XDG_DATA_HOME": str(home / "data"), "LC_ALL": "", "LANGUAGE": "", "VLLM_CPU_KVCACHE_SPACE": "1",
        }  # fmt: skip
        write_private(home / "config" / "qwen-tui" / "settings.toml", f'engine = "{engine.python}"\n')
        serve = [
            str(PROGRAM), "serve", str(model), "--name", "SmolLM2", "--served-model-name", MODEL,
            "--port", str(free_port()), "--max-model-len", "2048", "--", "--enforce-eager",
        ]  # fmt: skip
        inherited = {**os.environ, **environment}
        try:
            subprocess.run(serve, env=inherited, check=True)
            pictures(environment)
        finally:
            subprocess.run([str(PROGRAM), "stop", "--all"], env=inherited, check=True)


if __name__ == "__main__":
    main()
