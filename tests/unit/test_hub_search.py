"""Searching a hub and reading its cards, over HTTP, with everything that can go wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models import hub_search_http
from qwen_tui.models.card import hub_card, local_card, parse_card
from qwen_tui.models.hub_search import HubName, is_of_family, search_hub
from qwen_tui.models.tokens import TokenNeeded
from tests.conftest import until
from tests.fakes.hub_search import Entry, SearchHub, search_hub_server

BOTH = pytest.mark.parametrize("name", ["modelscope", "huggingface"])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SearchHub]:
    with search_hub_server(SearchHub()) as served:
        for variable in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT"):
            monkeypatch.setenv(variable, served.url)
        yield served


@BOTH
async def test_what_a_hub_tells(hub: SearchHub, name: HubName) -> None:
    hub.models = [Entry("Qwen/Qwen2-7B", 5), Entry("Qwen/Qwen2.5-7B", 9), Entry("other/Llama", 99)]
    found = await search_hub("qwen", name)
    assert [(model.id, model.downloads) for model in found] == [("Qwen/Qwen2.5-7B", 9), ("Qwen/Qwen2-7B", 5)]
    model = found[0]
    assert (model.hub, model.likes, model.task, model.size) == (name, 7, "text-generation", 15_231_000_000)
    assert model.licence.lower() == "apache-2.0"
    assert model.updated == datetime(2026, 5, 15, 1, 9, 19, tzinfo=timezone.utc).timestamp()
    assert (model.parameters, model.is_gated) == ((None, False) if name == "modelscope" else (7_615_616_512, True))
    assert hub.asked[0][1]["sort"] == ["downloads"]


@BOTH
async def test_a_family_is_searched_for_through_the_pages(hub: SearchHub, name: HubName) -> None:
    hub.models = [Entry(f"a/Qwen2.5-{number}", 1000 - number) for number in range(70)]
    hub.models += [Entry("Qwen/Qwen2-7B", 3), Entry("Qwen/Qwen2-0.5B", 2)]
    found = await search_hub("", name, family="Qwen2")
    assert [model.id for model in found] == ["Qwen/Qwen2-7B", "Qwen/Qwen2-0.5B"]
    assert len(hub.asked) == 2
    assert len(await search_hub("qwen", name, limit=60)) == 60


async def test_the_next_page_is_asked_for_where_the_first_was(hub: SearchHub) -> None:
    """A mirror passes on the original's address: it must not be given the mirror's token."""
    hub.token, hub.next_at = "secret", "http://elsewhere.invalid"
    hub.models = [Entry(f"a/Qwen2.5-{number}", 1000 - number) for number in range(70)]
    assert len(await search_hub("qwen", "huggingface", limit=60, token="secret")) == 60
    assert len(hub.asked) == 2


@BOTH
async def test_a_hub_that_takes_one_word_only(hub: SearchHub, name: HubName) -> None:
    hub.models = [Entry("Qwen/Qwen2-7B", 3), Entry("Qwen/Qwen2-0.5B", 2)]
    hub.one_word = True
    assert [model.id for model in await search_hub("7b", name, family="Qwen2")] == ["Qwen/Qwen2-7B"]


@pytest.mark.parametrize(
    ("name", "family", "belongs"),
    [
        ("Qwen/Qwen2-7B", "Qwen2", True), ("Qwen/Qwen2.5-7B", "Qwen2", False), ("qwen/qwen2___5-7B", "Qwen2", False),
        ("qwen/Qwen2.5-7B", "Qwen2.5", True), ("Qwen/Qwen2-VL-7B", "Qwen2", True), ("Qwen/Qwen3-8B", "Qwen3", True),
        ("Qwen/Qwen3.5-8B", "Qwen3", False), ("x/y", "", True),
    ],
)  # fmt: skip
def test_families(name: str, family: str, belongs: bool) -> None:
    assert is_of_family(name, family) == belongs


@BOTH
@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, None, "wants a token"),
        (403, None, "wants a token"),
        (429, None, "too often"),
        (503, None, "in trouble"),
        (404, None, "refuses"),
        (200, b"<html>Please log in</html>", "something else"),
        (200, b'{"success": true, "data": {"models": 3}}', "something else"),
        (200, b"[" * 100_000, "something else"),
    ],
)
async def test_what_goes_wrong_is_said(
    hub: SearchHub, name: HubName, status: int, body: bytes | None, said: str
) -> None:
    hub.status, hub.body = status, body
    with pytest.raises(ModelError) as caught:
        await search_hub("qwen", name)
    assert said in caught.value.title
    assert isinstance(caught.value, TokenNeeded) == (status in (401, 403))


async def test_entries_of_nonsense_are_left_out(hub: SearchHub) -> None:
    hub.body = (
        b'{"data": {"models": [1, {"id": 3}, {"id": "a/b\\u001b]0;x\\u0007", "downloads": "many", "likes": -1,'
        b' "tasks": [], "last_modified": "2026-99-99T00:00:00Z", "license": null}]}}'
    )
    (model,) = await search_hub("x")
    assert (model.id, model.downloads, model.likes, model.updated, model.task) == ("a/b", None, None, None, "")


@BOTH
async def test_offline_and_silent_hubs(hub: SearchHub, name: HubName, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.silent = True
    monkeypatch.setattr(hub_search_http.Asking.__init__, "__defaults__", ("", 0.1))
    with pytest.raises(ModelError) as caught:
        await search_hub("qwen", name)
    assert "No answer within" in caught.value.why
    for variable in ("MODELSCOPE_ENDPOINT", "HF_ENDPOINT"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    with pytest.raises(ModelError) as caught:
        await search_hub("qwen", name)
    assert "can't be reached" in caught.value.title
    assert "What is on this machine works without" in caught.value.hint


async def test_a_search_can_be_cancelled(hub: SearchHub) -> None:
    hub.silent = True
    task = asyncio.create_task(search_hub("qwen"))
    await until(lambda: hub.asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@BOTH
async def test_private_models_with_a_token(hub: SearchHub, name: HubName) -> None:
    hub.models, hub.token = [Entry("me/mine")], "secret"
    assert [model.id for model in await search_hub("mine", name, token="secret")] == ["me/mine"]
    assert (await hub_card("me/mine", name, token="secret")).text == "# Card"
    with pytest.raises(TokenNeeded):
        await hub_card("me/mine", name)


@BOTH
async def test_a_card_from_the_hub(hub: SearchHub, name: HubName) -> None:
    hub.models = [Entry("Qwen/Qwen2-7B", card=b"---\nlicense: apache-2.0\n---\n# Hello\n"), Entry("a/b", card=None)]
    card = await hub_card("Qwen/Qwen2-7B", name)
    assert (card.text, card.fields, card.is_cut) == ("# Hello", {"license": "apache-2.0"}, False)
    for model in ("a/b", "no id"):
        with pytest.raises(ModelError):
            await hub_card(model, name)
    hub.models[0].card = b"x\n" * 300_000
    card = await hub_card("Qwen/Qwen2-7B", name)
    assert card.is_cut
    assert len(card.text) < 400_001


def test_a_card_is_made_harmless() -> None:
    card = parse_card(
        b"\xef\xbb\xbf---\r\nlicense: mit\x1b[2J\r\ntags:\r\n- a\r\nbase: [x]\r\n---\r\n"
        b'<p align="center">\n<img src="http://x"/>Title\x1b]52;c;evil\x07</p>\n<!-- hidden\nmore -->'
        b"a <think> b \xff\n```html\n<p>kept</p> <!-- kept -->\n```\nend\x00" + "\u202e".encode()
    )
    assert card.fields == {"license": "mit"}
    assert card.text.split("\n")[0] == "Title"
    assert "a <think> b \ufffd" in card.text
    assert "<p>kept</p> <!-- kept -->" in card.text
    assert all(line.isprintable() for line in card.text.split("\n"))
    assert "hidden" not in card.text
    assert parse_card(b"").text == ""
    assert "never closed" in parse_card(b"---\nnever closed").text


def test_a_card_from_the_folder(tmp_path: Path) -> None:
    assert local_card(tmp_path) is None
    (tmp_path / "README.md").write_text("# Here")
    card = local_card(tmp_path / "model.gguf")
    assert card is not None
    assert card.text == "# Here"
