"""Which address gets which token: only the one that it was given for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qwen_tui.models.download_queue import Downloads
from qwen_tui.models.download_state import DownloadRequest, DownloadStatus
from qwen_tui.models.hub import HUBS
from qwen_tui.models.tokens import TokenNeeded, Tokens
from qwen_tui.paths import Paths
from tests.e2e.downloading import HUB_KEYS, PROGRAM, downloads, ended, hub, paths
from tests.fakes.hub import FakeHub

__all__ = ["downloads", "hub", "paths"]  # fixtures


@pytest.mark.parametrize("key", HUB_KEYS)
async def test_a_login_is_not_sent_to_an_address_that_somebody_typed(
    downloads: Downloads, paths: Paths, hub: FakeHub, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = HUBS[key]
    hub.token = "SECRETSECRET"
    monkeypatch.setenv(facts.token_variable, hub.token)
    monkeypatch.setenv(facts.endpoint_variable, "http://127.0.0.1:9")
    typed = DownloadRequest(hub.model, key, endpoint=hub.url)
    with pytest.raises(TokenNeeded) as caught:
        await downloads.plan(typed)
    assert "was not sent" in caught.value.hint
    Tokens(paths).save(facts, hub.token, hub.url)
    await downloads.plan(typed)
    assert hub.listings == 1
    id = await downloads.start(typed)
    assert (await ended(downloads, id)).status is DownloadStatus.DONE
    assert hub.listings == 1  # asked once, with a token, too
    # The environment's own address is one that the person chose together with the token.
    Tokens(paths).save(facts, "", hub.url)
    monkeypatch.setenv(facts.endpoint_variable, hub.url)
    await downloads.plan(DownloadRequest(hub.model, key))


def test_a_token_that_is_kept_and_refused_is_said_so_and_replaced(hub: FakeHub, paths: Paths, tmp_path: Path) -> None:
    hub.token = "NEWNEWNEW"
    tokens, facts = Tokens(paths), HUBS["modelscope"]
    tokens.save(facts, "OLDOLDOLD")
    words: list[str | Path] = [PROGRAM, "download", hub.model, "--cache-dir", str(tmp_path / "here")]
    refused = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert refused.returncode == 1
    assert "not accepted" in refused.stderr
    assert "--token-stdin" in refused.stderr
    assert tokens.is_refused(facts)
    done = subprocess.run([*words, "--token-stdin"], input=hub.token, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not tokens.is_refused(facts)
