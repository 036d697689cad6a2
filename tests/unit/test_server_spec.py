"""Specifications: from form fields to the exact command."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from qwen_tui.errors import UsageError
from qwen_tui.server.spec import ServerSpec, name_for, parse_spec


def test_the_tutorials_command() -> None:
    spec = parse_spec({
        "model": "qwen/Qwen2-7B-Instruct", "served_model_name": "Qwen2-7B-Instruct", "host": "0.0.0.0",
        "max_model_len": "2,048", "extra_args": "--enforce-eager --override '{\"a\": 1}'",
    })  # fmt: skip
    assert spec.argv("python") == [
        "python", "-m", "vllm.entrypoints.openai.api_server", "--model", "qwen/Qwen2-7B-Instruct",
        "--served-model-name", "Qwen2-7B-Instruct", "--host", "0.0.0.0", "--port", "8000",
        "--max-model-len", "2048", "--enforce-eager", "--override", '{"a": 1}',
    ]  # fmt: skip
    assert shlex.split(spec.shell_command("python")) == spec.argv("python")
    assert spec.base_url == "http://127.0.0.1:8000/v1"
    assert not spec.is_loopback
    assert spec.name == "Qwen2-7B-Instruct"
    assert ServerSpec.from_json(spec.to_json()) == spec


def test_secrets_are_hidden_in_the_command() -> None:
    spec = ServerSpec("a", "m", env={"HF_TOKEN": "hf_123", "VLLM_CPU_KVCACHE_SPACE": "1"})
    assert "hf_123" not in spec.shell_command("python")
    assert spec.shell_command("python").startswith("HF_TOKEN='***' VLLM_CPU_KVCACHE_SPACE=1 python -m")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Which model"),
        ({"model": "/no/such/folder"}, "there is no /no/such/folder"),
        ({"model": "m", "port": "80000"}, "Port"),
        ({"model": "m", "port": "eight"}, "Port"),
        ({"model": "m", "max_model_len": "-5"}, "Max model len"),
        ({"model": "m", "chat_template": "./none.jinja"}, "Chat template"),
        ({"model": "m", "extra_args": "--a 'unclosed"}, "Extra arguments"),
        ({"model": "m", "name": "../../etc"}, "Name"),
    ],
)
def test_bad_fields_are_named(fields: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_spec(fields)


def test_names() -> None:
    assert name_for("/models/Qwen 2/") == "Qwen-2"
    assert name_for("m", taken=["m", "m-2"]) == "m-3"
    assert name_for("///") == "server"


def test_ipv6_base_url() -> None:
    assert ServerSpec("a", "m", host="::").base_url == "http://[::1]:8000/v1"


def test_a_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_spec({"model": "./model"}).model == str(tmp_path / "model")
