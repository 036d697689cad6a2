"""The library of system prompts."""

from __future__ import annotations

import pytest

from qwen_tui.chat.system_prompts import SystemPrompts
from qwen_tui.errors import SettingsError, UsageError
from qwen_tui.paths import Paths


def test_prompts_are_kept_and_forgotten(paths: Paths) -> None:
    prompts = SystemPrompts(paths)
    assert prompts.all() == {}
    prompts.save("b", "你是助手\n\ud800")
    prompts.save("a", "x")
    prompts.save("a", "y")
    assert list(SystemPrompts(paths).all().items()) == [("a", "y"), ("b", "你是助手\n?")]
    assert prompts.file.stat().st_mode & 0o777 == 0o600
    prompts.delete("a")
    assert list(prompts.all()) == ["b"]
    for name, text in (("../x", "y"), ("", "y"), ("c", " \n")):
        with pytest.raises(UsageError):
            prompts.save(name, text)
    with pytest.raises(UsageError):
        prompts.delete("a")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 3}'])
def test_a_damaged_file_is_named_and_kept(paths: Paths, text: str) -> None:
    prompts = SystemPrompts(paths)
    prompts.file.parent.mkdir(parents=True)
    prompts.file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        prompts.save("a", "b")
    assert str(prompts.file) in caught.value.title
    assert prompts.file.read_text() == text
