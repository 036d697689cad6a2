"""Sampling parameters: what is accepted, what is refused in which words, what goes into the request; presets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwen_tui.chat.sampling import BY_NAME, PARAMETERS, Sampling, make_sampling
from qwen_tui.chat.sampling_presets import BUILT_IN, SamplingPresets, model_defaults
from qwen_tui.errors import SettingsError, UsageError
from qwen_tui.paths import Paths

EVERYTHING = {
    "temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "max_tokens": 9, "min_tokens": 1, "stop": ["a", "\n"],
    "stop_token_ids": [1, 2], "repetition_penalty": 1.1, "presence_penalty": -1, "frequency_penalty": 2, "seed": 7,
    "n": 2, "logprobs": 3, "ignore_eos": False, "extra_body": {"priority": 1},
}  # fmt: skip


def test_nothing_chosen_sends_nothing() -> None:
    assert Sampling().to_json() == {}
    assert make_sampling({}) == Sampling()
    assert make_sampling({"temperature": None, "stop": []}) == Sampling()


def test_everything_chosen_is_sent_by_the_names_of_the_api() -> None:
    sampling = make_sampling(EVERYTHING)
    body = sampling.to_json("completions")
    assert body == {**{name: value for name, value in EVERYTHING.items() if name != "extra_body"}, "priority": 1}
    chat = sampling.to_json("chat")
    assert (chat["logprobs"], chat["top_logprobs"]) == (True, 3)
    assert make_sampling(sampling.chosen()) == sampling
    json.dumps(sampling.chosen())


def test_guided_output_by_engine_version() -> None:
    schema = {"type": "object"}
    format_ = make_sampling({"json_schema": schema}).to_json()["response_format"]
    assert (format_["type"], format_["json_schema"]["schema"]) == ("json_schema", schema)
    regex = make_sampling({"regex": r"\d+"})
    assert regex.to_json() == {"structured_outputs": {"regex": r"\d+"}}
    for version in ("0.24.0", "0.32.0+cpu", "0.11.0", "", "main"):
        assert "structured_outputs" in regex.with_version(version).to_json()
    for version in ("0.10.2", "0.6.6.post1"):
        assert regex.with_version(version).to_json() == {"guided_regex": r"\d+"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0", 0.0), ("top_k", "-1", -1), ("stop", "\\n\\n", ("\n\n",)),
        ("stop", '["a", "b"]', ("a", "b")),
        ("stop_token_ids", "1, 2", (1, 2)), ("stop_token_ids", "[3]", (3,)), ("ignore_eos", "yes", True),
        ("ignore_eos", "false", False), ("json_schema", '{"a": 1}', {"a": 1}), ("regex", "a|b", "a|b"),
        ("seed", "-5", -5),
    ],
)  # fmt: skip
def test_what_a_person_writes(name: str, text: str, value: object) -> None:
    assert BY_NAME[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("temperature", "warm", "temperature must be a number, 0 to 2, not warm"),
        ("temperature", "2.1", "0 to 2"), ("temperature", "nan", "0 to 2"), ("temperature", "-0.1", "0 to 2"),
        ("top_p", "0", "above 0, at most 1"), ("top_k", "1.5", "a whole number"), ("top_k", "-2", "-1 or more"),
        ("max_tokens", "0", "1 or more"), ("repetition_penalty", "0", "above 0"), ("n", "0", "1 to 128"),
        ("stop", "", "not empty"), ("stop_token_ids", "x", "commas"), ("ignore_eos", "perhaps", "true or false"),
        ("json_schema", "[1]", "a JSON object"), ("json_schema", "{", "a JSON object"), ("seed", str(2**63), "seed"),
        ("repetition_penalty", "inf", "above 0"), ("regex", "", "not empty"), ("json_schema", "[" * 100_000, "JSON"),
    ],
)  # fmt: skip
def test_what_is_refused(name: str, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        BY_NAME[name].parse(text)
    assert says in caught.value.title


def test_wrong_names_and_what_does_not_go_together() -> None:
    with pytest.raises(UsageError) as caught:
        make_sampling({"temprature": 1})
    assert caught.value.why == "Did you mean “temperature”?"
    for values in (
        {"json_schema": {}, "regex": "a", "extra_body": {}},
        {"max_tokens": 1, "min_tokens": 2},
        {"n": 2, "temperature": 0},
        {"extra_body": {"messages": []}},
        {"temperature": True},
        {"stop": [1]},
    ):
        if values.get("json_schema") == {}:
            values = {**values, "json_schema": {"type": "object"}}
        with pytest.raises(UsageError):
            make_sampling(values)


def test_every_parameter_has_its_words() -> None:
    assert all(parameter.about and parameter.flag.startswith("--") for parameter in PARAMETERS)


def test_presets_are_kept(paths: Paths) -> None:
    presets = SamplingPresets(paths)
    assert list(presets.all()) == list(BUILT_IN)
    mine = make_sampling({**EVERYTHING, "regex": "é+"})
    presets.save("my own", mine)
    presets.save("exact", Sampling(seed=1))
    again = SamplingPresets(paths)
    assert again.get("my own") == mine
    assert again.get("exact") == Sampling(seed=1)
    assert again.file.stat().st_mode & 0o777 == 0o600
    again.delete("exact")
    assert again.get("exact") == BUILT_IN["exact"]
    for name in ("exact", "nobody"):
        with pytest.raises(UsageError):
            again.delete(name)
    with pytest.raises(UsageError):
        again.get("nobody")
    with pytest.raises(UsageError):
        again.save("../x", mine)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"temprature": 1}}', '{"a": 3}', '{"a": {"top_p": 7}}'])
def test_a_damaged_file_is_named_and_kept(paths: Paths, text: str) -> None:
    presets = SamplingPresets(paths)
    presets.file.parent.mkdir(parents=True)
    presets.file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        presets.save("x", Sampling(seed=1))
    assert str(presets.file) in caught.value.title
    assert presets.file.read_text() == text


def test_the_models_own_defaults(tmp_path: Path) -> None:
    assert model_defaults(tmp_path) == {}
    file = tmp_path / "generation_config.json"
    file.write_text('{"temperature": 0.7, "top_k": 20, "top_p": 3, "max_new_tokens": 5, "do_sample": true}')
    assert model_defaults(tmp_path) == {"temperature": 0.7, "top_k": 20, "max_tokens": 5}
    for text in ("[]", "{", "3"):
        file.write_text(text)
        assert model_defaults(tmp_path) == {}
