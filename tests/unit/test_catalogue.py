"""Models are found wherever they lie, with what they are and what they lack."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwen_tui.errors import ModelError
from qwen_tui.models.catalogue import Catalogue
from qwen_tui.models.local_changes import plan_deletion
from qwen_tui.models.local_folders import Place, places
from qwen_tui.models.local_model import LocalModel
from qwen_tui.models.local_weights import bits_of
from qwen_tui.paths import Paths
from tests.unit.test_fit_model import QWEN2_7B, write_safetensors

Tensors = dict[str, tuple[str, list[int], int]]
PLAIN: Tensors = {"embed.weight": ("BF16", [10, 4], 80), "layer.weight": ("BF16", [4, 4], 32)}


def make_model(folder: Path, tensors: Tensors = PLAIN, **config: Any) -> Path:
    """A small model that is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**QWEN2_7B, **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def make_cached(repository: Path, revision: str, content: str = "") -> Path:
    """A revision in Hugging Face's layout: links into blobs. content: tells its weights from another revision's."""
    blobs, snapshot = repository / "blobs", repository / "snapshots" / revision
    made = make_model(blobs / "new", {f"a{content}": ("F16", [50], 100)})
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    for file in sorted(made.iterdir()):
        blob = blobs / (f"{file.name}{content}" if file.suffix == ".safetensors" else file.name)
        file.rename(blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    made.rmdir()
    return snapshot


@pytest.fixture
def listed(paths: Paths, tmp_path: Path) -> Callable[..., list[LocalModel]]:
    """Lists what lies in tmp_path/here."""

    def run(source: Any = "folder", **options: Any) -> list[LocalModel]:
        return Catalogue(paths, where=[Place(tmp_path / "here", source)], **options).list()

    return run


Listed = Callable[..., list[LocalModel]]


def test_a_plain_folder(listed: Listed, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here" / "deep" / "Qwen2-7B")
    (model,) = listed()
    assert (model.id, model.path, model.root, model.source) == ("Qwen2-7B", folder, folder, "folder")
    assert (model.architecture, model.model_type, model.dtype) == ("Qwen2ForCausalLM", "qwen2", "bfloat16")
    assert (model.parameters, model.context, model.has_chat_template, model.problems) == (56, 32768, True, ())
    assert model.size == sum(file.stat().st_size for file in folder.iterdir())
    assert model.weights.loaded_size(4) == 224
    assert json.dumps(model.to_json())


@pytest.mark.parametrize(
    "below", ["hub/Qwen/Qwen2___5-7B", "hub/models/Qwen/Qwen2___5-7B", "models/Qwen/Qwen2___5-7B", "Qwen/Qwen2___5-7B"]
)
def test_modelscopes_old_layouts(listed: Listed, tmp_path: Path, below: str) -> None:
    folder = make_model(tmp_path / "here" / below)
    # Its client put a link with the real name beside.
    (folder.parent / "Qwen2.5-7B").symlink_to(folder.name)
    (tmp_path / "here" / "datasets" / "a" / "b").mkdir(parents=True)
    (model,) = listed("modelscope")
    assert (model.id, model.path, model.source) == ("Qwen/Qwen2.5-7B", folder, "modelscope")


def test_modelscopes_new_layout_and_its_cache_dir_anywhere(listed: Listed, tmp_path: Path) -> None:
    snapshot = make_model(tmp_path / "here" / "models" / "Qwen--Qwen2.5-7B" / "snapshots" / "master")
    old = make_model(tmp_path / "here" / "qwen" / "Qwen2-7B")
    (old / ".msc").write_bytes(b"")
    models = {model.id: model for model in listed("folder")}
    assert set(models) == {"Qwen/Qwen2.5-7B", "qwen/Qwen2-7B"}
    model = models["Qwen/Qwen2.5-7B"]
    assert (model.path, model.root, model.revision) == (snapshot, snapshot.parent.parent, "master")
    assert {model.source for model in models.values()} == {"modelscope"}


def test_hugging_faces_cache_counts_blobs_once(listed: Listed, tmp_path: Path) -> None:
    repository = tmp_path / "here" / "models--Qwen--Qwen2.5-7B"
    make_cached(repository, "aaa")
    make_cached(repository, "bbb", "-new")
    models = listed("huggingface")
    assert [(model.id, model.revision, model.source) for model in models] == [
        ("Qwen/Qwen2.5-7B", "aaa", "huggingface"),
        ("Qwen/Qwen2.5-7B", "bbb", "huggingface"),
    ]
    assert all(model.is_whole for model in models)
    assert models[0].size == sum(file.stat().st_size for file in (repository / "snapshots" / "aaa").iterdir())


def test_the_places_follow_the_variables(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    variables = {"MODELSCOPE_CACHE": "/ms", "HF_HOME": "/hf", "HF_HUB_CACHE": "/hub"}
    found = [(str(place.folder), place.source) for place in places(paths, [Path("/root/autodl-tmp")], variables)]
    assert found == [
        (str(paths.models), "qwen-tui"),
        ("/ms", "modelscope"),
        (str(tmp_path / ".cache" / "modelscope"), "modelscope"),
        ("/hub", "huggingface"),
        ("/hf/hub", "huggingface"),
        (str(tmp_path / ".cache" / "huggingface" / "hub"), "huggingface"),
        ("/root/autodl-tmp", "folder"),
    ]


def test_what_is_missing_is_said(listed: Listed, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shards = make_model(here / "shards")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    short = make_model(here / "short") / "model.safetensors"
    short.write_bytes(short.read_bytes()[:-1])
    make_model(here / "unfinished")
    (here / "unfinished" / "model.safetensors").rename(here / "unfinished" / "model.safetensors.incomplete")
    (make_model(here / "dumb") / "tokenizer.json").unlink()
    (make_model(here / "dangling") / "merges.txt").symlink_to("nowhere")
    (make_model(here / "garbled") / "config.json").write_text("{" * 100_000)
    (make_model(here / "strange") / "config.json").write_text("[1]")
    os.mkfifo(make_model(here / "pipe") / "merges.txt")
    make_model(here / "fine")
    said = {model.id: " | ".join(model.problems) for model in listed()}
    assert "1 of 2 weight files is missing: model-2.safetensors" in said["shards"]
    assert "bytes long; by its header it should be" in said["short"]
    assert "A download was broken off: 1 unfinished file" in said["unfinished"]
    assert said["dumb"] == "There is no tokenizer"
    assert "merges.txt is missing" in said["dangling"]
    assert said["garbled"].startswith("config.json can't be read")
    assert said["strange"].startswith("config.json can't be read")
    assert said["pipe"] == said["fine"] == ""


def test_one_that_breaks_the_reader_does_not_spoil_the_list(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        make_model(tmp_path / "here" / name)

    def explode(raw: Any) -> Any:
        raise ZeroDivisionError("\x1b]0;title\x07")

    monkeypatch.setattr("qwen_tui.models.local_reading.parse_model_config", explode)
    models = listed()
    assert [model.id for model in models] == ["a", "b"]
    assert models[0].problems == ("It can't be read: ZeroDivisionError: ",)


def test_hostile_names_are_made_harmless(listed: Listed, tmp_path: Path) -> None:
    make_model(tmp_path / "here" / "evil\x1b[31m\nname", architectures=["\x1b]52;c;x\x07Arch" + "x" * 500])
    (model,) = listed()
    assert model.id.isprintable()
    assert model.architecture.isprintable()
    assert len(model.architecture) <= 80


@pytest.mark.parametrize(
    ("tensors", "quantization", "parameters", "bits"),
    [
        ({"l.qweight": ("I32", [8, 64], 2048), "l.qzeros": ("I32", [1, 8], 32), "l.scales": ("F16", [1, 64], 128),
          "l.g_idx": ("I32", [64], 256), "n.weight": ("F16", [64], 128)},
         {"quant_method": "gptq", "bits": 4}, 8 * 64 * 8 + 64, 4),
        ({"l.qweight": ("I32", [64, 8], 2048), "l.qzeros": ("I32", [1, 8], 32), "l.scales": ("F16", [1, 64], 128)},
         {"quant_method": "awq", "bits": 4}, 64 * 64, 4),
        ({"l.qweight": ("I32", [16, 64], 4096)}, {"quant_method": "gptq", "bits": 8}, 64 * 64, 8),
        ({"l.weight": ("F8_E4M3", [64, 64], 4096), "l.weight_scale_inv": ("F32", [1, 1], 4)},
         {"quant_method": "fp8"}, 4096, 8),
        ({"l.weight": ("U8", [2048, 1], 2048), "l.weight.absmax": ("F32", [64], 256),
          "l.weight.quant_map": ("F32", [16], 64), "l.weight.quant_state.bitsandbytes__nf4": ("U8", [80], 80)},
         {"quant_method": "bitsandbytes", "load_in_4bit": True}, 4096, 4),
        ({"l.weight": ("I8", [64, 64], 4096), "l.SCB": ("F32", [64], 256)},
         {"quant_method": "bitsandbytes", "load_in_8bit": True, "bnb_4bit_quant_type": "fp4"}, 4096, 8),
        ({"l.weight_packed": ("I32", [64, 8], 2048), "l.weight_scale": ("BF16", [64, 1], 128),
          "l.weight_shape": ("I64", [2], 16)},
         {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}}, 4096, 4),
        ({"l.weight": ("F8_E4M3", [64, 64], 4096), "l.weight_scale": ("BF16", [64, 1], 128)},
         {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 8}}}}, 4096, 8),
        ({"l.gate_up_proj_blocks": ("U8", [64, 32], 2048), "l.gate_up_proj_scales": ("U8", [64], 64)},
         {"quant_method": "mxfp4"}, 4096, 4),
    ],
)  # fmt: skip
def test_parameters_of_packed_weights(
    listed: Listed, tmp_path: Path, tensors: Tensors, quantization: dict[str, Any], parameters: int, bits: int
) -> None:
    make_model(tmp_path / "here" / "packed", tensors, quantization_config=quantization)
    (model,) = listed()
    assert (model.parameters, model.bits, model.problems) == (parameters, bits, ())
    assert model.quantization == quantization["quant_method"]
    assert bits_of({"quantization_config": "nonsense"}) == 0


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def write_gguf(file: Path, tokens: int = 3) -> None:
    """A file of the format, version 3, with one tensor and a vocabulary."""
    entries = [
        text(b"general.architecture") + struct.pack("<I", 8) + text(b"qwen2"),
        text(b"general.file_type") + struct.pack("<II", 4, 15),
        text(b"qwen2.context_length") + struct.pack("<II", 4, 32768),
        text(b"qwen2.block_count") + struct.pack("<II", 4, 28),
        text(b"qwen2.attention.head_count") + struct.pack("<II", 4, 28),
        text(b"qwen2.attention.head_count_kv") + struct.pack("<II", 4, 4),
        text(b"qwen2.embedding_length") + struct.pack("<II", 4, 3584),
        text(b"tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, tokens) + text(b"abc") * tokens,
        text(b"tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, tokens) + bytes(4 * tokens),
        text(b"tokenizer.chat_template") + struct.pack("<I", 8) + text(b"{{ x }}"),
    ]
    tensor = text(b"token_embd.weight") + struct.pack("<IQQIQ", 2, 3584, 1000, 12, 0)
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, len(entries)) + b"".join(entries) + tensor + bytes(2000))


def test_gguf_files(listed: Listed, tmp_path: Path) -> None:
    folder = tmp_path / "here" / "guff"
    folder.mkdir(parents=True)
    write_gguf(folder / "qwen2-q4.gguf", tokens=100_000)
    (folder / "broken.gguf").write_bytes(b"GGUF\x03\0\0\0")
    write_gguf(folder / "big-00001-of-00002.gguf")
    for _again in range(2):  # the second time from what was kept
        models = {model.id: model for model in listed()}
        model = models["qwen2-q4.gguf"]
        assert (model.architecture, model.quantization, model.context) == ("qwen2", "Q4_K_M", 32768)
        assert (model.parameters, model.has_chat_template, model.problems) == (3_584_000, True, ())
        assert model.config is not None
        assert (model.config.kv_heads, model.config.vocab) == (4, 100_000)
        assert "header can't be read" in models["broken.gguf"].problems[0]
        assert models["big-00001-of-00002.gguf"].problems == ("1 of 2 parts is missing",)


def test_adapters_and_pipelines(listed: Listed, tmp_path: Path) -> None:
    adapter = tmp_path / "here" / "lora"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "qwen/Qwen2-7B"}')
    write_safetensors(adapter / "adapter_model.safetensors", PLAIN)
    pipeline = tmp_path / "here" / "pictures"
    (pipeline / "unet").mkdir(parents=True)
    (pipeline / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    make_model(pipeline / "unet")
    first, second = listed()
    assert (first.kind, first.architecture, first.base, first.problems) == ("adapter", "LORA", "qwen/Qwen2-7B", ())
    assert (second.id, second.kind, second.architecture) == ("pictures", "pipeline", "StableDiffusionPipeline")


def test_checkpoints_of_a_training(listed: Listed, tmp_path: Path) -> None:
    tuned = make_model(tmp_path / "here" / "tuned")
    make_model(tuned / "checkpoint-500")
    make_model(tuned / "onnx")
    assert [model.id for model in listed()] == ["tuned", "tuned/checkpoint-500"]


def test_what_is_no_model_is_not_listed(listed: Listed, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "node").mkdir(parents=True)
    (here / "node" / "config.json").write_text('{"port": 1}')
    make_model(here / ".hidden")
    make_model(here / "half.partial")
    (here / "loop").symlink_to(here)
    (here / "itself").symlink_to(here / "itself")
    assert listed() == []


def test_headers_are_read_once_and_again_when_a_file_changed(
    listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen_tui.models import local_reading

    reads: list[Path] = []
    real = local_reading.tally_weights

    def counted(folder: Path, names: Any, bits: int = 0) -> Any:
        reads.append(folder)
        return real(folder, names, bits)

    monkeypatch.setattr(local_reading, "tally_weights", counted)
    folder = make_model(tmp_path / "here" / "a")
    assert [listed()[0].parameters, listed()[0].parameters] == [56, 56]
    assert len(reads) == 1
    write_safetensors(folder / "model.safetensors", {"x": ("F16", [70], 140)})
    assert listed()[0].parameters == 70
    cache = tmp_path / "cache" / "catalogue.json"
    for damaged in ("{", "[]", json.dumps({"version": 1, "models": {str(folder): {"stamp": 1}}})):
        cache.write_text(damaged)
        assert listed()[0].parameters == 70


def test_last_used_is_the_last_start_else_when_it_was_read(listed: Listed, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here" / "Qwen2-7B", {"a": ("F16", [4000], 8000)})
    file = folder / "model.safetensors"
    assert listed()[0].last_used is None
    now = file.stat().st_ctime
    os.utime(file, (now + 5000, now))
    model = listed()[0]
    assert (model.last_used, model.is_use_on_record) == (pytest.approx(now + 5000), False)
    model = listed(used={str(folder): 17.0})[0]
    assert (model.last_used, model.is_use_on_record) == (17.0, True)


async def test_a_scan_comes_in_batches(paths: Paths, tmp_path: Path) -> None:
    for number in range(5):
        make_model(tmp_path / "here" / str(number))
    catalogue = Catalogue(paths, where=[Place(tmp_path / "here", "folder")])
    assert sorted([model.id async for batch in catalogue.scan() for model in batch]) == ["0", "1", "2", "3", "4"]


def test_find_by_id_name_and_path(paths: Paths, tmp_path: Path) -> None:
    here = make_model(tmp_path / "here" / "models" / "Qwen--Qwen2-7B" / "snapshots" / "master")
    elsewhere = make_model(tmp_path / "elsewhere" / "other")
    catalogue = Catalogue(paths, where=[Place(tmp_path / "here", "modelscope")])
    for name in ("Qwen/Qwen2-7B", "qwen2-7b", str(here), str(here.parent.parent)):
        assert catalogue.find(name).path == here
    assert catalogue.find(str(elsewhere)).id == "other"
    with pytest.raises(ModelError) as caught:
        catalogue.find("Qwen/Qwen2-8B")
    assert "Qwen/Qwen2-7B" in caught.value.why


def test_a_link_that_leads_to_itself_hides_nothing_beside_it(listed: Listed, tmp_path: Path) -> None:
    make_model(tmp_path / "here" / "model")
    (tmp_path / "here" / "itself").symlink_to("itself")
    assert [model.name for model in listed(tmp_path / "here")] == ["model"]


def test_a_link_that_is_named_is_the_link(paths: Paths, tmp_path: Path) -> None:
    real = make_model(tmp_path / "elsewhere" / "real")
    link = tmp_path / "link"
    link.symlink_to(real)
    model = Catalogue(paths, where=[]).find(str(link))
    assert model.path == link
    assert plan_deletion(model).paths == (link,)


def test_an_unfinished_file_counts_what_is_there_of_it(listed: Listed, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "here" / "coming")
    (folder / "model.safetensors").unlink()
    with (folder / "model.safetensors.parts.incomplete").open("wb") as file:
        file.truncate(10_000_000)
    (model,) = listed()
    assert model.size == sum(file.stat().st_size for file in folder.iterdir()) - 10_000_000
