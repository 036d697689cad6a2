"""The form's search through the engine's arguments, and what it says about those that were typed."""

from __future__ import annotations

import json
import shlex

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from qwen_tui.engine.arguments import Argument, ArgumentSchema, _key, cache_file
from qwen_tui.paths import write_private
from qwen_tui.server.plan import Plan
from qwen_tui.server.spec import ServerSpec
from qwen_tui.ui.app import QwenApp
from qwen_tui.ui.keys import declared_bindings
from qwen_tui.ui.screens.flags import FlagsScreen
from qwen_tui.ui.screens.plan import PlanScreen
from qwen_tui.ui.screens.server_form import ServerForm
from qwen_tui.ui.screens.server_form_view import FormSwitch
from qwen_tui.ui.services import Services

from .conftest import ENGINE, ready, running, starting, wait_until, with_servers

SCHEMA = ArgumentSchema(
    "0.24.0",
    (
        Argument(("--model",), "model", "ModelConfig"),
        Argument(("--dtype",), "dtype", "ModelConfig", choices=("auto", "half"), default="auto", help="The data type"),
        Argument(("--max-num-seqs",), "max_num_seqs", "SchedulerConfig", kind="int", default=256, help="[bold]At once"),
        Argument(("--lora-modules",), "lora_modules", "LoRA", nargs="+"),
        Argument(("--enforce-eager", "--no-enforce-eager"), "enforce_eager", "ModelConfig", nargs=0,
                 action="BooleanOptionalAction", default=False),
        Argument(("--speculative-config",), "speculative_config", "VllmConfig", kind="json"),
        Argument(("--seed",), "seed", "ModelConfig", kind="int", default=0),
        Argument(("--max-model-len",), "max_model_len", "ModelConfig", kind="int"),
    ),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _known(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine was asked before; every plan is well."""
    write_private(cache_file(ENGINE, services.paths), json.dumps({"key": _key(ENGINE), "schema": SCHEMA.to_json()}))
    monkeypatch.setattr("qwen_tui.ui.screens.plan.make_plan", lambda spec, *_args, **_options: Plan(spec, (), 0.1))


def text_of(app: QwenApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


def value_of(app: QwenApp, field: str) -> str:
    return app.screen.query_one(f"#field-{field}", Input).value


async def open_form(app: QwenApp, pilot: Pilot[None], key: str = "n") -> None:
    await pilot.press(key)
    await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
    await wait_until(pilot, lambda: "vLLM" in text_of(app, "#engine"))


async def open_flags(app: QwenApp, pilot: Pilot[None]) -> None:
    await pilot.press("ctrl+f")
    await wait_until(pilot, lambda: isinstance(app.screen, FlagsScreen))
    await wait_until(pilot, lambda: "arguments of vLLM" in text_of(app, "#title"))


@pytest.mark.parametrize("node", [FlagsScreen, PlanScreen, ServerForm])
def test_every_key_has_an_id_and_does_one_thing(node: type[ServerForm]) -> None:
    bindings = declared_bindings(node)
    assert [binding for binding in bindings if not binding.id or not binding.description] == []
    assert len({binding.key for binding in bindings}) == len(bindings)


async def test_an_argument_is_found_explained_checked_and_set(services: Services) -> None:
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        await open_flags(app, pilot)
        await pilot.press(*"max-num")
        await wait_until(pilot, lambda: "[bold]At once" in text_of(app, "#help"))
        assert "default: 256" in text_of(app, "#help")
        await pilot.press("enter", *"many")
        await wait_until(pilot, lambda: "“many” is not a whole number" in text_of(app, "#problem"))
        await pilot.press("enter")
        assert app.focused is app.screen.query_one("#value")
        await pilot.press(*["backspace"] * 4, *"8", "enter")
        await wait_until(pilot, lambda: app.focused is app.screen.query_one("#search"))
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        assert value_of(app, "extra_args") == "--max-num-seqs 8"
        await wait_until(pilot, lambda: "--max-num-seqs 8 (default 256)" in text_of(app, "#differs"))


async def test_a_flag_is_turned_on_and_off_with_enter_and_others_stay(services: Services) -> None:
    spec = ServerSpec("a", "qwen/A", extra_args=("--lora-modules", "x=/x", "y=/y z", "--dtype=half"))
    with_servers(services, ready("a", spec=spec))
    async with running(services) as (app, pilot):
        await open_form(app, pilot, "e")
        await open_flags(app, pilot)
        await pilot.press(*"eager", "enter", "escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        assert value_of(app, "extra_args") == "--lora-modules x=/x 'y=/y z' --dtype half --enforce-eager"
        await open_flags(app, pilot)
        await pilot.press(*"eager", "enter", *["backspace"] * 5, *"dtype", "ctrl+x", "escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        assert value_of(app, "extra_args") == "--lora-modules x=/x 'y=/y z'"


@pytest.mark.parametrize(
    ("words", "search"),
    [(("--speculative-config", '{"method": "it\'s"}'), "spec"), (("--seed=-3",), "seed")],
)
async def test_a_value_that_is_set_is_shown_as_it_is_and_enter_keeps_it(
    services: Services, words: tuple[str, ...], search: str
) -> None:
    with_servers(services, ready("a", spec=ServerSpec("a", "qwen/A", extra_args=words)))
    async with running(services) as (app, pilot):
        await open_form(app, pilot, "e")
        await open_flags(app, pilot)
        await pilot.press(*search, "enter")
        field = app.screen.query_one("#value", Input)
        await wait_until(pilot, lambda: app.focused is field)
        assert field.value == (words[1] if len(words) > 1 else "-3")
        await pilot.press("enter", "escape")
        await wait_until(pilot, lambda: isinstance(app.screen, ServerForm))
        assert shlex.split(value_of(app, "extra_args")) == list(words)


async def test_a_search_is_read_closely_and_points_to_what_the_form_has_itself(services: Services) -> None:
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        await open_flags(app, pilot)
        await pilot.press(*"num sqes")
        await wait_until(pilot, lambda: "searched: “num seqs”" in text_of(app, "#title"))
        assert "--max-num-seqs" in text_of(app, "#help")
        app.screen.query_one("#search", Input).value = "modle len"
        await wait_until(pilot, lambda: "in the form itself: --max-model-len" in text_of(app, "#title"))


async def test_a_slip_in_the_extra_arguments_is_named_as_one_types(services: Services) -> None:
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-extra_args", Input).value = "--max-num-sqes 8"
        await wait_until(pilot, lambda: "Did you mean “--max-num-seqs”?" in text_of(app, "#error-extra_args"))


async def test_switches_environment_and_idling_become_part_of_the_server(services: Services) -> None:
    fake = with_servers(services)
    async with running(services) as (app, pilot):
        await open_form(app, pilot)
        app.screen.query_one("#field-model", Input).value = "qwen/Qwen2"
        app.screen.query_one("#field-environment", Input).value = "A-B=1"
        await wait_until(pilot, lambda: "NAME=VALUE is needed" in text_of(app, "#error-environment"))
        app.screen.query_one("#field-environment", Input).value = "CUDA_VISIBLE_DEVICES=0,1"
        app.screen.query_one("#field-idle_minutes", Input).value = "x"
        await wait_until(pilot, lambda: "number of minutes" in text_of(app, "#error-idle_minutes"))
        app.screen.query_one("#field-idle_minutes", Input).value = "30"
        for switch in app.screen.query(FormSwitch):
            switch.value = True
        await wait_until(pilot, lambda: "VLLM_USE_MODELSCOPE=True" in text_of(app, "#command"))
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: not isinstance(app.screen, ServerForm))
    spec = fake.calls[0][1]
    assert isinstance(spec, ServerSpec)
    assert spec.env == {"CUDA_VISIBLE_DEVICES": "0,1", "VLLM_USE_MODELSCOPE": "True"}
    assert (spec.restart, spec.idle_minutes) == ("on-failure", 30)
    assert starting("x", spec=spec).name == "Qwen2"
