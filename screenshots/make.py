"""Makes the pictures of the README from a real run: `python -m screenshots.make`.

Needs what `qwen-tui demo` leaves behind: an engine and the demo model. Starts a server of its own, in folders of its
own, walks through the screens in both languages, draws what the terminal shows, and stops the server.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from qwen_tui.engine.find import find_engine
from qwen_tui.models import demo_model
from qwen_tui.paths import Paths, write_private
from qwen_tui.server.launch import free_port
from qwen_tui.server.service import Servers
from screenshots import benching, chatting, models, offline
from tests.terminal import Terminal

FOLDER = Path(__file__).parent
PROGRAM = Path(sys.executable).parent / "qwen-tui"
SIZE = (110, 32)
QUESTIONS = {
    "en": ("What is the capital of France?", "Name three large cities of Italy as a list."),
    "zh": ("What is the capital of Japan?",),
}


def save(terminal: Terminal, name: str) -> None:
    terminal.settle()
    (FOLDER / f"{name}.svg").write_text(terminal.svg("qwen-tui"), encoding="utf-8")
    print(f"{name}.svg", flush=True)


def fill_form(terminal: Terminal, model: Path, port: int) -> None:
    for text in (str(model), "SmolLM2", "SmolLM2-135M-Instruct", None, str(port), "2048", None, "--enforce-eager"):
        if text == str(port):
            terminal.press(*["backspace"] * 6)
        if text:
            terminal.type(text)
            terminal.wait_for(text[-20:])
        if text != "--enforce-eager":
            terminal.press("tab")
            terminal.read(0.4)


def ask(terminal: Terminal, questions: tuple[str, ...]) -> None:
    terminal.press("c")
    terminal.wait_for("SmolLM2-135M-Instruct ─")
    for number, question in enumerate(questions, 1):
        terminal.type(question)
        terminal.press("enter")
        terminal.wait_for(r"(?s)" + r"TTFT [\d,.]+ m?s · .*" * number, 120)


def english(environment: dict[str, str], model: Path, port: int) -> None:
    with Terminal([str(PROGRAM)], {**environment, "LANG": "C.UTF-8"}, *SIZE) as terminal:
        terminal.wait_for("n +new")
        terminal.press("n")
        terminal.wait_for(r"engine +vLLM \d")
        fill_form(terminal, model, port)
        terminal.read(0.5)
        save(terminal, "form-en")
        terminal.press("ctrl+s")
        if "Plan of" in terminal.wait_for("starting Python|Plan of", 30)[0]:
            terminal.press("enter")
        terminal.wait_for("(starting the engine|loading weights) +[1-9]", 240)
        save(terminal, "servers-en")
        terminal.wait_for("● SmolLM2 +ready", 240)
        ask(terminal, QUESTIONS["en"])
        save(terminal, "chat-en")
        terminal.press("esc", "l")
        terminal.wait_for("chat/completions")
        save(terminal, "logs-en")
        terminal.press("?")
        terminal.wait_for("esc +close")
        save(terminal, "help-en")


def chinese(environment: dict[str, str]) -> None:
    with Terminal([str(PROGRAM)], {**environment, "LANG": "zh_CN.UTF-8"}, *SIZE) as terminal:
        terminal.wait_for("● SmolLM2 +就绪")
        save(terminal, "servers-zh")
        terminal.press("n")
        terminal.wait_for(r"vLLM \d")
        terminal.read(0.5)
        save(terminal, "form-zh")
        terminal.press("esc")
        terminal.wait_for("● SmolLM2 +就绪")
        terminal.settle()
        ask(terminal, QUESTIONS["zh"])
        save(terminal, "chat-zh")
        terminal.press("esc", "l")
        terminal.wait_for("chat/completions")
        save(terminal, "logs-zh")


def main() -> None:
    own = Paths.from_environment()
    engine = find_engine(own)
    model = own.models / demo_model.NAME
    if not model.is_dir():
        sys.exit("run `qwen-tui demo --headless` first: it makes the model")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        environment = {
            "XDG_CONFIG_HOME": str(home / "config"), "XDG_STATE_HOME": str(home / "state"), "LC_ALL": "",
            "LANGUAGE": "", "VLLM_CPU_KVCACHE_SPACE": "1",
        }  # fmt: skip
        paths = Paths(home / "config" / "qwen-tui", own.data, home / "state" / "qwen-tui", own.cache)
        write_private(paths.settings_file, f'engine = "{engine.python}"\n')
        try:
            # Each with conversations of its own, and none of whoever makes the pictures.
            english({**environment, "XDG_DATA_HOME": str(home / "english")}, model, free_port())
            chatting.pictures({**environment, "XDG_DATA_HOME": str(home / "chatting")})
            benching.pictures({**environment, "XDG_DATA_HOME": str(home / "benching")})
            chinese({**environment, "XDG_DATA_HOME": str(home / "chinese")})
        finally:
            asyncio.run(stop_all(paths))
    models.main()
    offline.main()


async def stop_all(paths: Paths) -> None:
    servers = Servers(paths)
    for status in servers.list():
        await servers.stop(status.name)
    await servers.close()


if __name__ == "__main__":
    main()
