"""Profiles: files, the specification each gives, commands read and written, and the starters."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwen_tui.engine.find import Engine
from qwen_tui.errors import SettingsError, UsageError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths
from qwen_tui.server import registry
from qwen_tui.server.plan import Plan
from qwen_tui.server.profile_files import delete_profile, file_of, list_profiles, load_profile, save_profile
from qwen_tui.server.profiles import (
    Profile,
    flags_of,
    read_environment,
    words_of,
    write_environment,
)
from qwen_tui.server.ray_status import nodes_in, ray_line, with_ray
from qwen_tui.server.shell_import import import_command
from qwen_tui.server.spec import FieldError, ServerSpec
from qwen_tui.server.starters import STARTERS

FULL = Profile(
    "mine", "qwen/Qwen2", "my own", "/opt/vllm", "on-failure", 30,
    {"max-model-len": 2048, "gpu-memory-utilization": 0.9, "enforce-eager": True, "dtype": "half", "port": 8100,
     "lora-modules": ["a=/a", "b=/b"]},
    {"VLLM_USE_MODELSCOPE": "True"},
)  # fmt: skip


def write(paths: Paths, text: str, name: str = "mine") -> Path:
    file = file_of(paths, name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


# Files


def test_a_profile_comes_back_from_its_file_as_it_was(paths: Paths) -> None:
    file = save_profile(paths, FULL)
    assert load_profile(paths, "mine") == FULL
    assert file.stat().st_mode & 0o777 == 0o600
    assert next(profile.name for profile in list_profiles(paths)[0]) == "mine"
    assert delete_profile(paths, "mine") == file
    with pytest.raises(UsageError, match="no profile"):
        load_profile(paths, "mine")


def test_comments_outlive_a_change(paths: Paths) -> None:
    file = write(paths, '# why\nmodel = "a/b"  # which\n\n[flags]\n# short\nmax-model-len = 1024\nseed = 1\n')
    profile = load_profile(paths, "mine")
    save_profile(paths, dataclasses.replace(profile, flags={"max-model-len": 2048}))
    assert file.read_text() == '# why\nmodel = "a/b"  # which\n\n[flags]\n# short\nmax-model-len = 2048\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = ", "not valid TOML"),
        ('modle = "x"', "“modle”"),
        ("model = 7", "“model” must be a text"),
        ("flags = 7", "“flags” must be a table"),
        ('idle_minutes = "x"', "“idle_minutes” must be a whole number"),
        ("idle_minutes = true", "“idle_minutes” must be a whole number"),
        ('restart = "always"', "no, on-failure"),
        ("[flags]\nseed = {a = 1}", "“flags.seed”"),
        ('[flags]\nmodel = "x"', "not under"),
        ('[flags]\napi-key = "s3cret"', "flags.api-key"),
        ("[environment]\nA = [1]", "“environment.A”"),
        ('[environment]\n"A B" = "1"', "“environment.A B”"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file(paths: Paths, text: str, words: str) -> None:
    file = write(paths, text)
    with pytest.raises(SettingsError) as caught:
        load_profile(paths, "mine")
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    profiles, errors = list_profiles(paths)
    assert len(errors) == 1
    assert len(profiles) == len(STARTERS)


@pytest.mark.parametrize("name", ["../x", "a b", "", ".hidden", "a/b"])
def test_a_name_is_no_path(paths: Paths, name: str) -> None:
    with pytest.raises(UsageError):
        save_profile(paths, dataclasses.replace(FULL, name=name))


def test_a_typo_in_a_name_is_guessed_and_a_starter_stays(paths: Paths) -> None:
    with pytest.raises(UsageError, match="no profile") as caught:
        load_profile(paths, "qwen2-7b-24g")
    assert "qwen2-7b-24gb" in caught.value.why
    with pytest.raises(UsageError, match="comes with"):
        delete_profile(paths, "cpu")


# Specifications


def test_a_profile_gives_a_specification_and_back() -> None:
    spec = FULL.spec({"name": "x"})
    assert spec == ServerSpec(
        "x", "qwen/Qwen2", port=8100, max_model_len=2048,
        extra_args=("--gpu-memory-utilization", "0.9", "--enforce-eager", "--dtype", "half",
                    "--lora-modules", "a=/a", "b=/b"),
        env={"VLLM_USE_MODELSCOPE": "True"}, restart="on-failure", idle_minutes=30,
    )  # fmt: skip
    assert FULL.uses_modelscope
    assert Profile.of_spec("mine", spec).spec({"name": "x"}) == spec


def test_starters_give_specifications_and_have_words() -> None:
    assert len({starter.name for starter in STARTERS}) == 10
    for starter in STARTERS:
        spec = starter.spec()
        assert spec.model == starter.model
        assert _(starter.description)
        assert starter.uses_modelscope
        assert import_command(starter.shell_command(), starter.name).spec() == spec
    small = next(starter for starter in STARTERS if starter.name == "qwen2-7b-24gb").spec()
    assert (small.model, small.max_model_len) == ("qwen/Qwen2-7B-Instruct", 2048)


flag_values = st.one_of(
    st.just(True), st.integers(-9, 10**6), st.floats(0.01, 99).map(lambda x: round(x, 3)),
    st.text("abcXYZ./:=\"' {}$#;&|>", min_size=1, max_size=8).filter(lambda text: text.strip()),
)  # fmt: skip


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{1,10}", fullmatch=True), flag_values, max_size=5))
def test_words_are_read_back_as_the_same_flags(flags: dict[str, bool | int | float | str]) -> None:
    words = [word for name, value in flags.items() for word in words_of(name, value)]
    again = [word for name, value in flags_of(words).items() for word in words_of(name, value)]
    assert again == words


def test_repeated_flags_and_other_spellings() -> None:
    flags = flags_of(shlex.split("--middleware a --middleware b --max_model_len=1k -tp 2 --x.y_z 1 --seed -1"))
    assert flags == {"middleware": [["a"], ["b"]], "max-model-len": "1k", "-tp": 2, "x.y_z": 1, "seed": -1}
    assert words_of("middleware", flags["middleware"]) == ["--middleware", "a", "--middleware", "b"]
    assert words_of("-tp", 2) == ["-tp", "2"]
    assert words_of("enable-prefix-caching", False) == ["--no-enable-prefix-caching"]


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text(max_size=10), max_size=4))
def test_an_environment_is_read_back_from_its_line(environment: dict[str, str]) -> None:
    assert read_environment(write_environment(environment)) == environment


@pytest.mark.parametrize("line", ["A", "=1", "A-B=1", "A='open"])
def test_a_wrong_environment_is_refused(line: str) -> None:
    with pytest.raises(FieldError):
        read_environment(line)


# Commands


@pytest.mark.parametrize(
    "text",
    [
        "VLLM_USE_MODELSCOPE=True python -m vllm.entrypoints.openai.api_server --model qwen/Q --max-model-len=2048",
        "export VLLM_USE_MODELSCOPE=True\nvllm serve qwen/Q --max-model-len 2048",
        "export VLLM_USE_MODELSCOPE=True && vllm serve qwen/Q \\\n  --max_model_len 2048",
        "# to start\nexport VLLM_USE_MODELSCOPE=True; MODEL=qwen/Q\r\nnohup vllm serve $MODEL --max-model-len 2048 "
        "> server.log 2>&1 &\necho started",
        "$ cd /srv\n$ VLLM_USE_MODELSCOPE=True vllm serve --max-model-len 2048 --model=qwen/Q  # the small one",
        "env VLLM_USE_MODELSCOPE=True uv run python3 -m vllm.entrypoints.openai.api_server --model qwen/Q \\\n"
        "    --max-model-len 2048 2>&1 | tee log",
    ],
)
def test_commands_as_people_write_them(text: str) -> None:
    profile = import_command(text, "mine", {})
    assert profile == Profile(
        "mine", "qwen/Q", flags={"max-model-len": 2048}, environment={"VLLM_USE_MODELSCOPE": "True"}
    )


def test_json_quotes_engine_key_and_the_model_behind_a_flag() -> None:
    profile = import_command(
        "CUDA_VISIBLE_DEVICES=0,1 /opt/v/bin/python -m vllm.entrypoints.openai.api_server --trust-remote-code "
        "./a#b --limit-mm-per-prompt '{\"image\": 2,\n \"video\": 0}' --api-key s3cret -tp 2",
        "x", {},
    )  # fmt: skip
    assert profile.model == "./a#b"
    assert profile.engine == "/opt/v/bin/python"
    assert profile.environment == {"CUDA_VISIBLE_DEVICES": "0,1", "VLLM_API_KEY": "s3cret"}
    assert profile.flags["limit-mm-per-prompt"] == '{"image": 2,\n "video": 0}'
    exported = profile.shell_command()
    assert "s3cret" not in exported
    assert import_command(exported, "x", {"VLLM_API_KEY": "s3cret"}) == profile


@pytest.mark.parametrize("text", ["", "ls -l", "vllm bench", "vllm serve", "vllm serve $NOT_SET", "vllm serve 'open"])
def test_what_is_no_command_is_refused_in_words(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        import_command(text, "x", {})
    assert caught.value.title


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert import_command(text, "x", {}).model


# Ray, and what worked last

RAY_STATUS = """\
======== Autoscaler status: 2026-11-22 10:00:00 ========
Node status
---------------------------------------------------------------
Active:
 1 node_aaa
 1 node_bbb
Pending:
 (no pending nodes)
Resources
---------------------------------------------------------------
Total Usage:
 0.0/16.0 GPU
"""


def ray_engine(folder: Path, script: str) -> Engine:
    folder.mkdir()
    (folder / "ray").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ray").chmod(0o700)
    return Engine(folder / "python", "0.24.0", "cuda", "option")


def test_the_ray_cluster_shows_its_nodes_or_how_to_start_one(tmp_path: Path) -> None:
    assert nodes_in(RAY_STATUS) == ["node_aaa", "node_bbb"]
    up = ray_line(ray_engine(tmp_path / "up", f"cat <<'X'\n{RAY_STATUS}X"))
    assert up.level == "ok"
    assert "node_aaa, node_bbb" in up.text
    assert "16 GPUs" in up.text
    down = ray_engine(tmp_path / "down", "echo 'Could not find any running Ray instance' >&2; exit 1")
    spec = ServerSpec("x", "a/b", extra_args=("--distributed-executor-backend", "ray"))
    plan = with_ray(Plan(spec, (), 0.1), down)
    assert not plan.can_start
    assert "ray start --head" in plan.lines[0].remedy
    assert with_ray(Plan(ServerSpec("x", "a/b"), (), 0.1), down).lines == ()


def test_the_last_that_worked_is_kept(paths: Paths) -> None:
    assert registry.last_working(paths.servers) is None
    launch = {"id": "1", "spec": FULL.spec().to_json(), "engine": {"python": "/opt/p"}}
    registry.mark_ready(registry.Record(paths.servers / "one", launch, {}, kept=True))
    assert registry.last_working(paths.servers) == (FULL.spec(), "/opt/p")
    (paths.servers / registry.LAST_WORKING).write_text("{")
    assert registry.last_working(paths.servers) is None
