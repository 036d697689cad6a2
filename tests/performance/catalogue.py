"""How long it takes to list 200 models, cold and again. Bar: under a second, without torch or transformers.

    python tests/performance/catalogue.py [-n MODELS]

Makes models of the 7B shape (339 tensors in 4 files; each tenth a mixture of experts with 18,867 tensors in 16) as
sparse files in the layouts of both hubs, and lists them in processes of their own. The reference is the time that
merely parsing the same headers takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LIST = """
import sys, time
from pathlib import Path
began, cpu = time.perf_counter(), time.process_time()
from qwen_tui.models.catalogue import Catalogue
from qwen_tui.models.local_folders import Place
from qwen_tui.paths import Paths
root = Path(sys.argv[1])
paths = Paths(root / "c", root / "d", root / "s", root / "cache")
models = Catalogue(paths, where=[Place(root / "modelscope", "modelscope"), Place(root / "hub", "huggingface")]).list()
took, cpu = time.perf_counter() - began, time.process_time() - cpu
heavy = sorted({"torch", "transformers", "modelscope", "huggingface_hub"} & set(sys.modules))
whole = sum(model.is_whole for model in models)
print(f"{len(models)} models, {whole} whole, in {took:.3f} s ({cpu:.3f} s of CPU); heavy imports: {heavy or 'none'}")
"""
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16",
}  # fmt: skip
PARTS = ("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight",
         "self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias", "mlp.gate_proj.weight",
         "mlp.up_proj.weight", "mlp.down_proj.weight", "input_layernorm.weight",
         "post_attention_layernorm.weight")  # fmt: skip


def names(is_moe: bool) -> list[str]:
    layers, inner = (48, [f"mlp.experts.{expert}.{part}_proj.weight" for expert in range(128) for part in
                          ("gate", "up", "down")]) if is_moe else (28, [])  # fmt: skip
    found = [
        f"model.layers.{layer}.{part}" for layer in range(layers) for part in (*PARTS[: 9 if is_moe else 12], *inner)
    ]
    return ["model.embed_tokens.weight", *found, "model.norm.weight", "lm_head.weight"]


def make_model(folder: Path, is_moe: bool) -> None:
    """A folder with everything that belongs to a model, its data being holes in the files."""
    folder.mkdir(parents=True)
    all_names, count = names(is_moe), 16 if is_moe else 4
    index: dict[str, str] = {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in all_names[number::count]:
            header[name] = {"dtype": "BF16", "shape": [3584, 128], "data_offsets": [end, end + 3584 * 128 * 2]}
            end += 3584 * 128 * 2
            index[name] = file
        text = json.dumps(header, separators=(",", ":")).encode()
        with (folder / file).open("wb") as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            stream.truncate(8 + len(text) + end)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{% x %}" * 500}))


def make_all(root: Path, count: int) -> None:
    """`count` models: half in ModelScope's new and old layouts, half in Hugging Face's, with links into blobs."""
    for number in range(count):
        name, is_moe = f"Model-{number}", number % 10 == 9
        if number % 2:
            repository = root / "hub" / f"models--owner--{name}"
            make_model(repository / "blobs", is_moe)
            snapshot = repository / "snapshots" / "0123456789abcdef"
            snapshot.mkdir(parents=True)
            for file in (repository / "blobs").iterdir():
                (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
        elif number % 4:
            make_model(root / "modelscope" / "models" / f"owner--{name}" / "snapshots" / "master", is_moe)
        else:
            make_model(root / "modelscope" / "hub" / "models" / "owner" / f"{name}___5", is_moe)


def parse_all(root: Path) -> float:
    """Seconds of CPU to parse every header, and nothing else."""
    began = time.process_time()
    for file in root.rglob("*.safetensors"):
        if not file.is_symlink():
            with file.open("rb") as stream:
                json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=200)
    count = parser.parse_args().n
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_all(root, count)
        print(f"parsing the headers alone: {parse_all(root):.3f} s of CPU")
        for kind in ("cold", "again"):
            print(f"{kind}: ", end="", flush=True)
            subprocess.run([sys.executable, "-c", LIST, folder], check=True)


if __name__ == "__main__":
    main()
