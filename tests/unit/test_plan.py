"""The plan of a start: each check on model folders and machines made for it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.engine.arguments import Argument, ArgumentSchema
from qwen_tui.engine.find import Engine
from qwen_tui.hardware.gpus import Gpu, GpuProcess
from qwen_tui.hardware.host import Host
from qwen_tui.models.fit import GIB
from qwen_tui.paths import Paths
from qwen_tui.server.launch import free_port
from qwen_tui.server.plan import Change, Machine, Plan, PlanLine, make_plan
from qwen_tui.server.plan_arguments import Choices, version_of
from qwen_tui.server.spec import ServerSpec
from tests.conftest import PORTS
from tests.unit.test_fit_model import QWEN2_7B, write_safetensors

REGISTRY = """
_TEXT_GENERATION_MODELS = {"Qwen2ForCausalLM": ("qwen2", "Qwen2ForCausalLM")}
_TRANSFORMERS_BACKEND_MODELS = {"TransformersForCausalLM": ("transformers", "TransformersForCausalLM")}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS}
_PREVIOUSLY_SUPPORTED_MODELS = {"GoneForCausalLM": "0.9.2"}
"""
SCHEMA = ArgumentSchema(
    "0.32.0",
    tuple(
        Argument((f"--{name}",), name.replace("-", "_"), kind=kind)  # type: ignore[arg-type]
        for name, kind in (("model", "text"), ("host", "text"), ("port", "int"), ("max-model-len", "human int"),
                           ("served-model-name", "text"), ("gpu-memory-utilization", "float"))
    ),
    architectures=frozenset({"Qwen2ForCausalLM"}),
)  # fmt: skip
SMALL = {**QWEN2_7B, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2,
         "vocab_size": 1000, "intermediate_size": 128}  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    site = tmp_path / "engine" / "lib" / "python3.11" / "site-packages"
    registry = site / "vllm/model_executor/models/registry.py"
    registry.parent.mkdir(parents=True)
    registry.write_text(REGISTRY)
    table = site / "transformers/models/auto/modeling_auto.py"
    table.parent.mkdir(parents=True)
    table.write_text('MODELS = [("fresh", "FreshForCausalLM")]')
    (tmp_path / "engine" / "pyvenv.cfg").write_text("")
    return Engine(tmp_path / "engine" / "bin" / "python", "0.32.0", "cuda", "option")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SMALL))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    write_safetensors(folder / "model.safetensors", {"a": ("BF16", [1000, 64], 128_000)})
    return folder


def card(index: int = 0, **changes: Any) -> Gpu:
    full = 140 * GIB
    h200 = Gpu(index, f"GPU-{index}", "NVIDIA H200", full, full, 0, compute_capability=(9, 0))
    return dataclasses.replace(h200, **changes)


def machine(*gpus: Gpu, ram: int = 64 * GIB) -> Machine:
    return Machine(gpus or (card(),), Host(ram, ram, 0, 8, 0), (ram, ram))


MakePlan = Callable[..., Plan]


@pytest.fixture
def plan(model: Path, engine: Engine, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> MakePlan:
    """Plans the model; fields of the specification by keyword, and `words` for its extra arguments."""
    for name in ("CUDA_VISIBLE_DEVICES", "VLLM_CPU_KVCACHE_SPACE", "VLLM_USE_MODELSCOPE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(model.parent / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(model.parent / "scope"))

    def make(
        words: str = "",
        on: Machine | None = None,
        using: Engine = engine,
        schema: ArgumentSchema | None = None,
        **spec: Any,
    ) -> Plan:
        known: dict[str, Any] = {"name": "x", "model": str(model), "port": free_port(first=PORTS + 90)}
        wanted = ServerSpec(**{**known, "extra_args": tuple(words.split()), **spec})
        return make_plan(wanted, using, paths, schema=schema, machine=on or machine())

    return make


def line(plan: Plan, topic: str) -> PlanLine:
    """The worst line of a topic."""
    found = [one for one in plan.lines if one.topic == topic]
    assert found, [one.topic for one in plan.lines]
    return max(found, key=lambda one: ("ok", "warn", "stop").index(one.level))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_all_is_well(plan: MakePlan) -> None:
    made = plan("", max_model_len=2048)
    assert made.level == "ok", [one for one in made.lines if one.level != "ok"]
    assert made.can_start
    assert made.fit is not None
    assert made.seconds < 2
    assert json.loads(json.dumps(made.to_json()))["level"] == "ok"


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, qwen_tui.server.plan, qwen_tui.headless.plan; print([m for m in ('torch', 'vllm', 'textual', "
    code += "'transformers', 'pynvml') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_damaged_weights(plan: MakePlan, model: Path) -> None:
    write_safetensors(model / "model.safetensors", {"a": ("BF16", [10], 20)}, -4)
    assert line(plan(), "weights").level == "stop"
    assert line(plan("--load-format dummy"), "weights").level == "warn"
    (model / "model.safetensors").unlink()
    assert "no weight files" in line(plan(), "weights").text
    (model / "config.json").unlink()
    assert "config.json" in line(plan(), "model").text


def test_a_model_that_is_not_there(plan: MakePlan, tmp_path: Path) -> None:
    assert line(plan(model="/nowhere/at/all"), "model").level == "stop"
    online = line(plan(model="qwen/Qwen2-7B-Instruct"), "model")
    assert online.level == "warn"
    assert "Hugging Face" in online.text
    assert online.change is not None
    changed = online.change.apply(ServerSpec("x", "qwen/Qwen2-7B-Instruct"))
    assert changed.env == {"VLLM_USE_MODELSCOPE": "True"}
    assert "ModelScope" in line(plan(model="qwen/Qwen2-7B-Instruct", env=changed.env), "model").text
    assert line(plan(model="a/b", env={"HF_HUB_OFFLINE": "1"}), "model").level == "stop"


@pytest.mark.parametrize("place", ["scope/models/a/b", "scope/a/b", "hf/hub/models--a--b/snapshots/rev"])
def test_a_hubs_model_that_is_in_a_cache(plan: MakePlan, model: Path, place: str) -> None:
    target = model.parent / place
    target.parent.mkdir(parents=True)
    target.symlink_to(model)
    if place.startswith("hf"):
        refs = model.parent / "hf/hub/models--a--b/refs"
        refs.mkdir()
        (refs / "main").write_text("rev\n")
    assert line(plan(model="a/b"), "weights").level == "ok"


@pytest.mark.parametrize(
    ("name", "level", "said"),
    [
        ("Qwen2ForCausalLM", "ok", "known to vLLM 0.32.0"),
        ("GoneForCausalLM", "stop", "the last that did was 0.9.2"),
        ("FreshForCausalLM", "warn", "through transformers"),
        ("UnheardForCausalLM", "stop", "does not know UnheardForCausalLM"),
    ],
)
def test_architectures(plan: MakePlan, model: Path, name: str, level: str, said: str) -> None:
    edit(model / "config.json", architectures=[name])
    found = line(plan(), "architecture")
    assert (found.level, said in found.text) == (level, True), found


def test_an_architecture_that_a_plugin_added(plan: MakePlan, model: Path) -> None:
    edit(model / "config.json", architectures=["PluginForCausalLM"])
    schema = dataclasses.replace(SCHEMA, architectures=frozenset({"PluginForCausalLM"}))
    assert line(plan(schema=schema), "architecture").level == "ok"


def test_tokenizer_and_chat_template(plan: MakePlan, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    assert line(plan(), "tokenizer").level == "stop"
    assert line(plan(f"--tokenizer {model}"), "tokenizer").level == "stop"
    for name in ("vocab.json", "merges.txt"):
        (model / name).touch()
    assert line(plan(), "tokenizer").level == "ok"
    assert line(plan(), "chat").text == "from tokenizer_config.json"
    (model / "tokenizer_config.json").write_text("{}")
    assert line(plan(), "chat").level == "warn"
    (model / "chat_template.jinja").touch()
    assert line(plan(), "chat").text == "from chat_template.jinja"
    missing = line(plan(chat_template="/no/such.jinja"), "chat")
    assert missing.level == "stop"
    assert missing.change is not None
    assert missing.change.apply(ServerSpec("x", "y", chat_template="/no/such.jinja")).chat_template == ""


def test_context(plan: MakePlan, model: Path) -> None:
    found = line(plan(max_model_len=40000), "context")
    assert found.level == "stop"
    assert found.change is not None
    assert found.change.apply(ServerSpec("x", "y", max_model_len=40000)).max_model_len == 32768
    assert line(plan(max_model_len=40000, env={"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}), "context").level == "warn"
    assert line(plan("--hf-overrides {}", max_model_len=40000), "context").level == "warn"
    edit(model / "config.json", rope_scaling={"type": "yarn", "factor": 4.0})
    assert line(plan(max_model_len=131072), "context").level == "warn"
    assert line(plan(max_model_len=131073), "context").level == "stop"


def test_tensor_parallel(plan: MakePlan) -> None:
    two = machine(card(0), card(1))
    assert line(plan("-tp 2", on=two), "gpus").level == "ok"
    few = line(plan("-tp 4", on=two), "gpus")
    assert few.level == "stop"
    assert few.change is not None
    assert few.change.apply(ServerSpec("x", "y", extra_args=("-tp", "4", "--seed", "1"))).extra_args == (
        "--seed", "1", "--tensor-parallel-size", "2",
    )  # fmt: skip
    three = machine(*map(card, range(4)))
    assert "can't be shared" in line(plan("--tensor_parallel_size=3", on=three), "gpus").text
    assert "kept 2 times" in line(plan("-tp=4", on=three), "gpus").text
    assert line(plan("-tp 4 --distributed-executor-backend ray", on=two), "gpus").level == "warn"
    assert line(plan("-tp 2", on=two, env={"CUDA_VISIBLE_DEVICES": "1"}), "gpus").level == "stop"


def test_no_gpu(plan: MakePlan) -> None:
    none = dataclasses.replace(machine(), gpus=(), gpu_problem="Driver Not Loaded")
    assert "Driver Not Loaded" in line(plan(on=none), "gpus").text
    hidden = line(plan(env={"CUDA_VISIBLE_DEVICES": ""}), "gpus")
    assert hidden.change is not None
    assert line(plan(env=hidden.change.apply(ServerSpec("x", "y")).env), "gpus").level == "ok"


@pytest.mark.parametrize(
    ("words", "quantization", "capability", "level"),
    [
        ("", None, (7, 5), "ok"),
        ("--dtype bfloat16", None, (7, 5), "stop"),
        ("--dtype bfloat16", None, (8, 0), "ok"),
        ("", "fp8", (8, 0), "warn"),
        ("", "fp8", (9, 0), "ok"),
        ("--quantization mxfp4", None, (7, 5), "stop"),
    ],
)
def test_precision(
    plan: MakePlan, model: Path, words: str, quantization: str | None, capability: tuple[int, int], level: str
) -> None:
    if quantization:
        edit(model / "config.json", quantization_config={"quant_method": quantization})
    assert line(plan(words, on=machine(card(compute_capability=capability))), "precision").level == level


def big_model(model: Path) -> None:
    """The shape of Qwen2-7B; the weights' file has holes instead of data."""
    (model / "config.json").write_text(json.dumps(QWEN2_7B))
    size = 7_615_616_512 * 2
    header = json.dumps({"a": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    with (model / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)


def test_memory_of_a_24_gb_card(plan: MakePlan, model: Path) -> None:
    big_model(model)
    small = machine(card(memory_total=int(23.6 * GIB), memory_free=int(23.6 * GIB), name="NVIDIA GeForce RTX 4090"))
    fits = line(plan(max_model_len=2048, on=small), "memory")
    assert fits.level == "ok", fits
    assert "the longest context that fits" in fits.text
    long = plan("--gpu-memory-utilization 0.7", on=small)
    found = line(long, "memory")
    assert found.level == "stop"
    assert found.change is not None
    shorter = found.change.apply(long.spec)
    assert long.fit is not None
    assert 64 <= (shorter.max_model_len or 0) <= long.fit.longest
    again = plan("--gpu-memory-utilization 0.7", max_model_len=shorter.max_model_len, on=small)
    assert line(again, "memory").level == "ok"
    tiny = machine(card(memory_total=8 * GIB, memory_free=8 * GIB))
    assert "leave no memory" in line(plan(on=tiny), "memory").text


def test_memory_that_others_hold(plan: MakePlan, model: Path) -> None:
    big_model(model)
    holder = GpuProcess(3332, 100 * GIB, "VLLM::EngineCore")
    taken = machine(card(memory_free=40 * GIB, processes=(holder,)))
    made = plan(max_model_len=2048, on=taken)
    found = line(made, "memory")
    assert found.level == "stop"
    assert "held by 3332 VLLM::EngineCore (100.0 GiB)" in found.text
    assert found.change is not None
    smaller = found.change.apply(made.spec)
    assert smaller.extra_args == ("--gpu-memory-utilization", "0.28")
    assert plan(" ".join(smaller.extra_args), max_model_len=2048, on=taken).can_start
    full = line(plan(max_model_len=2048, on=machine(card(memory_free=9 * GIB))), "memory")
    assert (full.level, full.change) == ("stop", None)


def test_memory_on_a_cpu(plan: MakePlan, engine: Engine) -> None:
    cpu = dataclasses.replace(engine, platform="cpu")
    free = machine(ram=16 * GIB)
    assert line(plan(using=cpu, on=free, env={"VLLM_CPU_KVCACHE_SPACE": "1"}), "memory").level == "ok"
    found = line(plan(using=cpu, on=free, env={"VLLM_CPU_KVCACHE_SPACE": "100"}), "memory")
    assert found.level == "stop"
    assert found.change is not None
    assert found.change.env == {"VLLM_CPU_KVCACHE_SPACE": "7"}
    assert line(plan(using=cpu, env={"VLLM_CPU_KVCACHE_SPACE": "1.5"}), "memory").level == "stop"
    busy = Machine((), Host(16 * GIB, 8 * GIB, 0, 2, 0), (16 * GIB, 8 * GIB))
    refused = line(plan(using=cpu, on=busy), "memory")
    assert "92 % of the RAM" in refused.text
    assert refused.change is not None
    assert plan(using=cpu, on=busy, env=refused.change.env).can_start


def test_a_taken_port_names_who_has_it(plan: MakePlan) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = line(plan(port=port), "port")
    assert found.level == "stop"
    assert f"taken by {os.getpid()} " in found.text
    assert found.change is not None
    assert line(plan(port=found.change.fields["port"]), "port").level == "ok"


def test_reach_and_code(plan: MakePlan, model: Path) -> None:
    assert line(plan(host="0.0.0.0"), "host").level == "warn"
    elsewhere = line(plan(host="192.0.2.1"), "port")
    assert elsewhere.level == "stop"
    assert elsewhere.change is not None
    edit(model / "config.json", auto_map={"AutoModel": "x.Y"}, architectures=["OwnForCausalLM"])
    asked = line(plan(), "code")
    assert asked.change is not None
    assert asked.change.apply(ServerSpec("x", "y")).extra_args == ("--trust-remote-code",)
    trusted = plan("--trust-remote-code")
    assert line(trusted, "code").level == "warn"
    assert line(trusted, "architecture").level == "warn"


def test_arguments(plan: MakePlan) -> None:
    assert line(plan("--gpu-memory-utilization 0.9", schema=SCHEMA), "arguments").level == "ok"
    made = plan("--gpu-memory-utilisation=0.9", schema=SCHEMA)
    found = line(made, "arguments")
    assert found.level == "stop"
    assert found.change is not None
    assert found.change.apply(made.spec).extra_args == ("--gpu-memory-utilization=0.9",)
    assert line(plan("--any"), "arguments").text.startswith("taken as they are")


def test_choices_are_read_as_written() -> None:
    words = ("-tp=2", "--max_num_seqs", "1k", "--seed", "-1", "--enforce-eager", "-cc.mode", "3")
    spec = ServerSpec("x", "y", extra_args=words, env={"A": "1"})
    choices = Choices.of(spec, environment={"A": "0", "B": "yes"})
    assert choices.given == {"--tensor-parallel-size": "2", "--max-num-seqs": "1k", "--seed": "-1",
                             "--enforce-eager": "", "-cc.mode": "3"}  # fmt: skip
    assert (choices.number("--max-num-seqs", 5), choices.number("--seed", 5), choices.number("--none", 5)) == (
        1000,
        -1,
        5,
    )
    assert (choices.is_on("A"), choices.is_on("B"), choices.is_on("C")) == (True, True, False)
    assert choices.real("--tensor-parallel-size", 0.5) == 2.0
    off = Choices.of(ServerSpec("x", "y", extra_args=("--enforce-eager", "--no-enforce-eager")), environment={})
    assert not off.has("--enforce-eager")
    with_schema = Choices.of(spec, ArgumentSchema("1", (Argument(("--q",), "q", default=7),)), {})
    assert with_schema.number("--q", 1) == 7


def test_a_change_touches_nothing_else() -> None:
    spec = ServerSpec("x", "y", port=1, extra_args=("--a", "1", "--dtype=auto", "--b"), env={"K": "v"})
    change = Change("", fields={"port": 2}, flags={"--dtype": "half", "--b": None}, env={"L": "w"})
    changed = change.apply(spec)
    assert changed.extra_args == ("--a", "1", "--dtype", "half")
    assert (changed.port, changed.env) == (2, {"K": "v", "L": "w"})
    assert spec.env == {"K": "v"}


def test_versions() -> None:
    assert [version_of(text) for text in ("0.24.0", "0.32.0+cpu", "0.4.0.post1", "unknown")] == [
        (0, 24), (0, 32), (0, 4), (999, 0),
    ]  # fmt: skip
