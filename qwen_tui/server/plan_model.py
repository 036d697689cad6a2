"""The plan's questions about the model: is it whole, does the engine know it, can it talk, how long a context."""

from __future__ import annotations

import json
from pathlib import Path

from qwen_tui.engine.architectures import read_architectures, transformers_has
from qwen_tui.errors import ModelError
from qwen_tui.i18n import _, ngettext
from qwen_tui.models.model_config import read_model_config
from qwen_tui.models.safetensors_header import read_weights
from qwen_tui.progress import format_bytes
from qwen_tui.server.plan_arguments import Change, Choices
from qwen_tui.server.plan_check import Check

#: Any one of these groups is a tokenizer.
_TOKENIZERS = (
    ("tokenizer.json",), ("tokenizer.model",), ("tekken.json",), ("vocab.json", "merges.txt"), ("vocab.txt",),
    ("spiece.model",), ("tokenizer.model.v3",), ("qwen.tiktoken",), ("tiktoken.model",), ("vocab.json",),
)  # fmt: skip


def check_model(check: Check) -> None:
    """Find the model's folder, its configuration and its weights, and whether they are whole."""
    model = check.spec.model
    folder = local_folder(model, check.choices)
    if folder is None:
        _not_here(check, model)
        return
    check.folder = folder
    if folder.is_file():
        check.weights = read_weights(folder)
        check.warn("model", _("{file} is a single file: what is in it is not checked").format(file=folder.name))
        return
    try:
        check.config = read_model_config(folder)
    except ModelError as error:
        why = f": {error.why}" if error.why else ""
        check.stop("model", error.title + why, error.hint or _("Download the model again, or resume the download"))
        return
    weights = check.weights = read_weights(folder)
    if not weights.is_whole:
        text = " · ".join(weights.problems[:3])
        if len(weights.problems) > 3:
            text += " · " + _("and {count} more").format(count=len(weights.problems) - 3)
        if check.choices.text("--load-format") == "dummy":
            check.warn("weights", text, _("--load-format dummy needs none: the model will answer nonsense"))
        else:
            check.stop("weights", text, _("Resume the download of the model: what is there is kept"))
        return
    shown = ngettext("{count} file", "{count} files", len(weights.files)).format(count=len(weights.files))
    if weights.parameters:
        shown += ", " + _("{count} parameters").format(count=_short(weights.parameters))
    check.ok("weights", _("whole: {size} in {files}").format(size=format_bytes(weights.size), files=shown))


def _not_here(check: Check, model: str) -> None:
    if model.startswith(("/", "~", ".")):
        check.stop("model", _("There is no {path}").format(path=model), _("Choose a model that is on this machine"))
        return
    hub = "ModelScope" if check.choices.is_on("VLLM_USE_MODELSCOPE") else "Hugging Face"
    if check.choices.is_on("HF_HUB_OFFLINE") and hub == "Hugging Face":
        check.stop(
            "model", _("{model} is not on this machine, and HF_HUB_OFFLINE forbids a download").format(model=model)
        )
        return
    change = None
    if hub != "ModelScope":
        change = Change(_("download from ModelScope"), env={"VLLM_USE_MODELSCOPE": "True"})
    check.warn(
        "model",
        _("{model} is not on this machine: vLLM will download it from {hub} while it starts").format(
            model=model, hub=hub
        ),
        _("Download it beforehand: then the plan can tell whether it fits"),
        change,
    )


def local_folder(model: str, choices: Choices) -> Path | None:
    """Where the model's files are: `model` itself if it is a path, else in the hubs' caches; None if nowhere."""
    path = Path(model).expanduser()
    if path.exists():
        return path
    if "/" not in model or model.startswith(("/", ".", "~")):
        return None
    home = Path.home()
    scope = Path(choices.variable("MODELSCOPE_CACHE") or home / ".cache" / "modelscope" / "hub")
    organisation, _slash, name = model.partition("/")
    for folder in (scope / "models" / model, scope / model, scope / "models" / organisation / name.replace(".", "___")):
        if (folder / "config.json").is_file():
            return folder
    hub = Path(choices.variable("HF_HOME") or home / ".cache" / "huggingface") / "hub"
    repository = Path(choices.variable("HF_HUB_CACHE") or hub) / f"models--{model.replace('/', '--')}"
    try:
        revision = (repository / "refs" / (choices.text("--revision") or "main")).read_text(encoding="utf-8").strip()
    except OSError:
        revision = choices.text("--revision")
    snapshot = repository / "snapshots" / revision if revision else None
    return snapshot if snapshot is not None and snapshot.is_dir() else None


def check_architecture(check: Check) -> None:
    """Whether the engine can run this kind of model."""
    if check.config is None:
        return
    names = check.config.architectures
    if not names:
        check.warn("architecture", _("config.json names no architecture: vLLM will guess"))
        return
    tables = read_architectures(check.engine)
    known = (check.schema.architectures if check.schema else frozenset()) | (tables.known if tables else frozenset())
    version = check.engine.version
    if not known:
        check.warn(
            "architecture", _("vLLM {version} does not say which architectures it knows").format(version=version)
        )
        return
    if any(name in known for name in names):
        name = next(name for name in names if name in known)
        check.ok("architecture", _("{name}, known to vLLM {version}").format(name=name, version=version))
        return
    name = names[0]
    if tables is not None and name in tables.removed:
        text = _("vLLM {version} no longer knows {name}: the last that did was {last}")
        check.stop(
            "architecture",
            text.format(version=version, name=name, last=tables.removed[name]),
            _("Use an engine with that version"),
        )
        return
    has_fallback = tables is not None and tables.has_fallback
    if has_fallback and (transformers_has(check.engine, name) or check.choices.has("--trust-remote-code")):
        text = _("{name} is not vLLM's own: it would run through transformers, slower, if it can at all")
        check.warn("architecture", text.format(name=name))
        return
    check.stop(
        "architecture",
        _("vLLM {version} does not know {name}").format(version=version, name=name),
        _("A newer engine may know it: `qwen-tui setup`"),
    )


def check_tokenizer(check: Check) -> None:
    """Whether the tokenizer's files are there. vLLM starts without a word when they are missing."""
    if check.folder is None or not check.folder.is_dir() or check.choices.has("--skip-tokenizer-init"):
        return
    named = check.choices.text("--tokenizer")
    folder = local_folder(named, check.choices) if named else check.folder
    if folder is None or not folder.is_dir():
        check.warn("tokenizer", _("{name} is not on this machine: vLLM will look for it").format(name=named))
        return
    if any(all((folder / name).is_file() for name in group) for group in _TOKENIZERS):
        found = next(group for group in _TOKENIZERS if all((folder / name).is_file() for name in group))
        check.ok("tokenizer", ", ".join(found))
        return
    check.stop(
        "tokenizer",
        _("There is no tokenizer in {folder}: vLLM would start, and then answer nothing sensible").format(
            folder=folder
        ),
        _("Download tokenizer.json and tokenizer_config.json too, or name another: --tokenizer"),
    )


def check_chat_template(check: Check) -> None:
    """Whether a chat can be turned into a prompt; without, /v1/chat/completions answers with an error."""
    given = check.spec.chat_template or check.choices.text("--chat-template")
    if given:
        path = Path(given).expanduser()
        looks_like_file = given.endswith(".jinja") or given.startswith(("/", "~", "./", "../"))
        if looks_like_file and not path.is_file():
            change = Change(_("without it"), fields={"chat_template": ""}, flags={"--chat-template": None})
            check.stop("chat", _("There is no file {path}").format(path=given), _("Name another, or none"), change)
        else:
            check.ok("chat", _("given: {name}").format(name=path.name if looks_like_file else _("a template")))
        return
    if check.folder is None or not check.folder.is_dir():
        return
    source = _template_source(check.folder)
    if source:
        check.ok("chat", _("from {file}").format(file=source))
        return
    check.warn(
        "chat",
        _("The model has no chat template: chat requests will fail, completions will work"),
        _("Give a template for this family of models with --chat-template, or use completions only"),
    )


def _template_source(folder: Path) -> str:
    """The file that has the chat template; empty without one."""
    if (folder / "chat_template.jinja").is_file():
        return "chat_template.jinja"
    for name in ("chat_template.json", "tokenizer_config.json", "processor_config.json"):
        try:
            data = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(data, dict) and data.get("chat_template"):
            return name
    # Mistral's own tokenizer needs no template.
    return "tekken.json" if (folder / "tekken.json").is_file() else ""


def check_context(check: Check) -> None:
    """Whether the asked context is within the model's."""
    config = check.config
    if config is None or not config.max_length:
        return
    asked = check.spec.max_model_len
    stretched = next((name for name in ("--hf-overrides", "--rope-scaling") if check.choices.has(name)), "")
    if asked is None:
        text = _("{count:,} tokens, the model's own").format(count=config.default_length)
        check.ok("context", text)
    elif asked <= config.max_length:
        text = _("{asked:,} of the model's {count:,} tokens").format(asked=asked, count=config.max_length)
        check.ok("context", text)
    elif stretched:
        text = _("{asked:,} tokens are more than the model's {count:,}; {name} may allow it")
        check.warn("context", text.format(asked=asked, count=config.max_length, name=stretched))
    elif asked <= config.longest:
        text = _("{asked:,} tokens are within the model's reach by YaRN, but not every vLLM takes it so: {count:,}")
        check.warn("context", text.format(asked=asked, count=config.max_length))
    elif check.choices.is_on("VLLM_ALLOW_LONG_MAX_MODEL_LEN"):
        text = _("{asked:,} tokens, and the model was made for {count:,}: answers may turn to nonsense")
        check.warn("context", text.format(asked=asked, count=config.max_length))
    else:
        text = _("{asked:,} tokens are more than the model's {count:,} ({key}): vLLM will refuse")
        check.stop(
            "context",
            text.format(asked=asked, count=config.max_length, key=config.length_key or "config.json"),
            _("Ask for at most {count:,}").format(count=config.max_length),
            Change(f"max-model-len {config.max_length}", fields={"max_model_len": config.max_length}),
        )


def _short(count: int) -> str:
    """7615616512 → "7.62 B"."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
