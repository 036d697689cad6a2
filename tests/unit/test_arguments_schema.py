"""The list of an engine's arguments: read once through a worker, kept, searched."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from qwen_tui.engine.arguments import Argument, ArgumentSchema, cache_file
from qwen_tui.engine.find import Engine
from qwen_tui.errors import EngineError
from qwen_tui.paths import Paths
from qwen_tui.progress import Progress

#: A vLLM of our own making, with the ways in which the real one declares its arguments.
CLI_ARGS = """
import argparse, dataclasses, json

class FlexibleArgumentParser(argparse.ArgumentParser):
    pass

@dataclasses.dataclass
class Pass:
    __pydantic_config__ = {"extra": "forbid"}
    fuse: bool = True

@dataclasses.dataclass
class Compilation:
    __pydantic_config__ = {"extra": "forbid"}
    mode: int = 0
    pass_config: "Pass" = None

Compilation.__dataclass_fields__["pass_config"].type = Pass

def optional_type(kind):
    def _optional_type(text):
        return None if text == "None" else kind(text)
    return _optional_type

def human_readable_int(text):
    return int(text)

def reader():
    def parse_dataclass(text, cls=Compilation):
        return cls(**json.loads(text))
    return parse_dataclass

def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    group = parser.add_argument_group("ModelConfig")
    group.add_argument("--max-model-len", type=optional_type(human_readable_int), help="tokens, 100%% of %(dest)s")
    group.add_argument("--dtype", choices=["auto", "half"], default="auto")
    group.add_argument("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--compilation-config", "-cc", type=reader(), default=Compilation())
    group.add_argument("--backend", type=lambda text: text.lower().replace("-", "_"), choices=["flash_attn"])
    group.add_argument("--parser", metavar="{hermes,mistral} or one of a plugin")
    return parser
"""
REGISTRY = (
    "class ModelRegistry:\n    @staticmethod\n    def get_supported_archs():\n        return {'BForX', 'AForX'}\n"
)


def make_vllm(site: Path, cli_args: str, place: str = "vllm/entrypoints/openai/cli_args.py") -> None:
    file = site / place
    file.parent.mkdir(parents=True)
    file.write_text(cli_args)
    folder = file.parent
    while folder != site:
        (folder / "__init__.py").touch()
        folder = folder.parent
    (site / "vllm" / "__init__.py").write_text(f"__version__ = '9.9.9'\n{REGISTRY}")
    (site / "vllm-9.9.9.dist-info").mkdir(exist_ok=True)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "engine" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def engine(tmp_path: Path, site: Path) -> Engine:
    python = tmp_path / "engine" / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH={site}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "engine" / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    return Engine(python, "9.9.9", "cpu", "option")


async def test_the_parser_is_read_with_its_types(site: Path, engine: Engine, paths: Paths) -> None:
    make_vllm(site, CLI_ARGS)
    steps: list[Progress] = []
    schema = await ArgumentSchema.load(engine, paths, steps.append)
    assert (schema.version, schema.is_flexible) == ("9.9.9", True)
    assert schema.architectures == {"AForX", "BForX"}
    assert [step.done for step in steps] == [0, 1, 2]
    known = schema.by_name
    length = known["--max-model-len"]
    assert (length.kind, length.optional, length.group) == ("human int", True, "ModelConfig")
    assert length.help == "tokens, 100% of max_model_len"
    assert known["--dtype"].choices == ("auto", "half")
    prefix = known["--no-enable-prefix-caching"]
    assert prefix is known["--enable-prefix-caching"]
    assert prefix.is_flag
    assert prefix.is_boolean_optional
    assert prefix.name == "--enable-prefix-caching"
    assert known["-cc"].fields == {"mode": None, "pass_config": {"fuse": None}}
    assert known["--backend"].kind == "folded text"
    assert known["--parser"].suggestions == ("hermes", "mistral")


async def test_a_parser_without_a_parameter_as_in_0_4(site: Path, engine: Engine, paths: Paths) -> None:
    make_vllm(
        site,
        "import argparse\n"
        "def make_arg_parser():\n"
        "    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--host')\n"
        "    return parser\n",
    )
    schema = await ArgumentSchema.load(engine, paths)
    assert not schema.is_flexible
    assert "--host" in schema.by_name


async def test_a_parser_that_is_nowhere_is_taken_from_the_running_server(
    site: Path, engine: Engine, paths: Paths
) -> None:
    make_vllm(
        site,
        "import argparse\n"
        "if __name__ == '__main__':\n"
        "    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--moved', type=int, default=3)\n"
        "    parser.parse_args()\n"
        "    raise SystemExit('it started')\n",
        "vllm/entrypoints/openai/api_server.py",
    )
    schema = await ArgumentSchema.load(engine, paths)
    assert schema.by_name["--moved"].default == 3


async def test_it_is_kept_until_vllm_is_installed_anew(site: Path, engine: Engine, paths: Paths) -> None:
    make_vllm(site, CLI_ARGS)
    assert ArgumentSchema.cached(engine, paths) is None
    first = await ArgumentSchema.load(engine, paths)
    (site / "vllm/entrypoints/openai/cli_args.py").write_text("raise RuntimeError('asked again')")
    assert await ArgumentSchema.load(engine, paths) == first
    assert cache_file(engine, paths).stat().st_mode & 0o777 == 0o600
    os.utime(site / "vllm-9.9.9.dist-info", (1, 1))
    assert ArgumentSchema.cached(engine, paths) is None
    with pytest.raises(EngineError) as caught:
        await ArgumentSchema.load(engine, paths)
    assert "asked again" in caught.value.why


async def test_a_damaged_cache_is_read_anew(site: Path, engine: Engine, paths: Paths) -> None:
    make_vllm(site, CLI_ARGS)
    first = await ArgumentSchema.load(engine, paths)
    file = cache_file(engine, paths)
    for text in ("", "[]", "{", json.dumps({"key": json.loads(file.read_text())["key"], "schema": {}})):
        file.write_text(text)
        assert ArgumentSchema.cached(engine, paths) is None
    assert await ArgumentSchema.load(engine, paths) == first


def test_search_looks_at_names_first_then_at_everything() -> None:
    schema = ArgumentSchema(
        "1",
        (
            Argument(("--seed",), "seed", "A", help="makes prefix caching repeatable"),
            Argument(("--enable-prefix-caching",), "p", "B"),
            Argument(("-h", "--help"), "help", "A", action="HelpAction"),
            Argument((), "model_tag", "A"),
        ),
    )
    assert [argument.name for argument in schema.search("prefix_cach")] == ["--enable-prefix-caching", "--seed"]
    assert [argument.name for argument in schema.search("")] == ["--seed", "--enable-prefix-caching"]
    assert schema.search("nothing") == []
    assert list(schema.groups()) == ["A", "B"]
    assert ArgumentSchema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
