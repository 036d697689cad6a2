"""Keys that arrive in one piece: each is meant for what the one before it led to."""

from __future__ import annotations

import pytest
from textual import events
from textual.app import App
from textual.widgets import Input, TextArea

from qwen_tui.ui.services import Services
from tests.ui.conftest import running, stopped, wait_until, with_servers


def arrive(app: App[None], *keys: str) -> None:
    """All of `keys` at once, as a slow line delivers them."""
    for key in keys:
        event: events.Event = events.Key(key, key if len(key) == 1 else None) if key[0] != "<" else events.Paste(key)
        event.set_sender(app)
        app.post_message(event)


def fields(app: App[None]) -> list[str]:
    return [field.value for field in app.screen.query(Input)]


async def test_a_form_is_opened_and_filled_in_one_burst(services: Services) -> None:
    async with running(services, size=(100, 30)) as (app, pilot):
        arrive(app, "n", *"qwen", "tab", *"one", "tab", "<pas\x1b]52;c;\x07ted>\rx", "shift+tab", *"s")
        await wait_until(pilot, lambda: len(fields(app)) > 2 and fields(app)[1] == "ones")
        assert fields(app)[:3] == ["qwen", "ones", "<pas␛]52;c;␇ted>"]


@pytest.mark.parametrize("room", ["p", "c"])
async def test_a_text_begins_with_the_letter_after_the_rooms_key(services: Services, room: str) -> None:
    async with running(services, size=(100, 30)) as (app, pilot):
        arrive(app, room, *"Once")
        await wait_until(pilot, lambda: any(area.text.endswith("nce") for area in app.screen.query(TextArea)))
        assert app.screen.query(TextArea).first().text == "Once"


async def test_a_widget_that_goes_away_with_a_key_does_not_hold_up_the_next(services: Services) -> None:
    with_servers(services, stopped("one"), stopped("two"))
    async with running(services, size=(100, 30)) as (app, pilot):
        arrive(app, "n", "escape", "question_mark", "escape", "l", "s", "n", *"end")
        await wait_until(pilot, lambda: bool(fields(app)) and fields(app)[0] == "end")
