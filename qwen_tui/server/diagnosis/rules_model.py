"""The model: its files, its configuration, its tokenizer, its architecture, its quantization."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule

_AGAIN = N_("Download the model again: whole files are kept, missing and damaged ones fetched (then start it again).")
_NEWER = N_("Use a newer vLLM (and transformers), or a model that this version knows.")


def _asked_model(finding: Finding) -> str:
    return finding.group("model") or finding.facts.argument("model") or "?"


def _missing_path(finding: Finding) -> str:
    model = _asked_model(finding)
    if model.startswith(("/", "~", ".")):
        return _("There is no model folder {model}.").format(model=model)
    return _("“{model}” is neither a model folder nor a name on the hub.").format(model=model)


def _damaged_json(finding: Finding) -> str:
    named = finding.elsewhere(r"config file at '([^']*)'")
    if named:
        return _("The model's configuration file {file} is not valid JSON.").format(file=named[1])
    return _("A JSON file of the model (config.json, tokenizer.json, an index …) is damaged.")


def _shard(finding: Finding) -> str:
    return _("Weight files of the model are missing: {files}").format(
        files=finding.group("files").strip("[]{}()")[:300]
    )


def _unknown_quantization(finding: Finding) -> str:
    asked = finding.group("asked") or finding.group("asked2")
    if asked:
        return _("This vLLM does not know the quantization {asked}.").format(asked=asked)
    return _("This vLLM does not know how the model is quantized.")


def _misfit(finding: Finding) -> str:
    name = finding.group("name") or finding.group("name2")
    if name:
        return _("The weights do not fit what config.json says the model is: nothing takes {name}.").format(name=name)
    return _("The weights do not fit what config.json says the model is.")


def _without_config(finding: Finding) -> str:
    model = finding.group("model") or finding.group("model2") or finding.group("model3")
    if not model:
        return _("The model folder has no usable config.json.")
    return _("{model} is no model folder with a usable config.json, nor a name on the hub.").format(model=model)


def _gguf(finding: Finding) -> str:
    name = finding.group("name") or finding.group("name2") or finding.group("name3")
    if not name:
        return _("This vLLM can't load the model from its GGUF file.")
    return _("This vLLM can't load GGUF files of the architecture {name}.").format(name=name)


def _without_quantization(_finding: Finding) -> Relaunch:
    return Relaunch(remove=("--quantization",))


def _quantization_of_model(finding: Finding) -> Relaunch | None:
    return _without_quantization(finding) if finding.group("model_method") else None


def _half_if_taken(finding: Finding) -> Relaunch | None:
    takes_half = "float16" in finding.group("choices").replace("bfloat16", "")
    return Relaunch({"--dtype": "half"}) if takes_half else None


_ROPE = N_("This engine does not understand how the model's config.json stretches the context (rope_scaling).")
_AFTER_ROPE = N_(
    "Use a newer vLLM (and transformers), or correct rope_scaling in config.json; what was given on the command line "
    "(--rope-scaling, --hf-overrides) must have rope_type and factor."
)
RULES = (
    # -- files ------------------------------------------------------------------------------------------
    rule(
        "gguf",
        r"GGUF model with architecture (?P<name>[\w.-]+) is not supported"
        r"|[Uu]nknown gguf model_type: (?P<name2>[\w.-]+)"
        r"|Architecture '?(?P<name3>[\w.-]+)'? not supported|config file at '[^']*\.gguf' is not",
        _gguf,
        N_("Use the model's safetensors, or its AWQ or GPTQ version; or a newer vLLM with --tokenizer and "
           "--hf-config-path set to the model that the GGUF file was made from."),
    ),
    rule(
        "weights-lfs-pointer",
        r"git-lfs|invalid load key, 'v'|HeaderTooLarge|header too large|invalid header length",
        N_("The weight files hold no weights: most likely they are Git LFS pointers, small texts that stand for the "
           "real files."),
        N_("Fetch the real files: `git lfs pull` in the model folder, or download the model with qwen-tui."),
    ),
    rule(
        "weights-damaged",
        r"^(?:\w+\.)*(?:MemoryError|UnicodeDecodeError|JSONDecodeError|error|OverflowError)\b",
        N_("A weight file is not what its name says: it is damaged, or a Git LFS pointer instead of the weights."),
        _AGAIN,
        where=r"safetensors",
    ),
    rule(
        "weights-incomplete",
        r"incomplete metadata|file not fully covered|MetadataIncompleteBuffer|InvalidHeader"
        r"|[Ee]rror while deserializing(?: header)?"
        r"|SafetensorError|unexpected end of file|PytorchStreamReader failed|central directory|unexpected EOF"
        r"|Ran out of input"
        r"|invalid load key|UnpicklingError|file is truncated|storage has wrong byte size"
        r"|size mismatch for data|(?:file|archive|checkpoint|weights?|shard)\b.{0,40}\bcorrupted",
        N_("A weight file of the model is cut off or damaged."),
        _AGAIN,
    ),
    rule(
        "weights-missing",
        r"Weight files referenced in index but missing: (?P<files>.+)",
        _shard,
        _AGAIN,
    ),
    rule(
        "weights-missing",
        r"No such file or directory:? ?:?\"?'?(?P<files>[^'\"]*?[^'\"/]+\.(?:safetensors|bin|pt|gguf))",
        _shard,
        _AGAIN,
    ),
    rule(
        "weights-missing",
        r"[Cc]annot find any (?:safetensors )?model weights with `?(?P<model>[^`]+)`?"
        r"|(?:does not appear to have a|no) file named (?:pytorch_model|model)"
        r"|Cannot find any .*weights",
        N_("There are no weight files in the model folder."),
        _AGAIN,
    ),
    rule(
        "weights-missing",
        r"weights were not initialized from checkpoint: (?P<files>.+)",
        N_("Weights are missing in the model's files: {files}"),
        N_("A file may be missing (download the model again), or config.json does not belong to these weights."),
    ),
    rule(
        "config-damaged",
        r"config file at '?(?P<file>[^']*)'? is not a valid JSON|JSONDecodeError",
        _damaged_json,
        _AGAIN,
        where=r"transformers|huggingface_hub|vllm/transformers_utils|configuration_utils|tokenization|weight_utils",
    ),
    rule(
        "config-damaged",
        r"looks? like the config file at '(?P<file>[^']*)'",
        _damaged_json,
        _AGAIN,
    ),
    rule(
        "model-path-missing",
        r"Repo id must (?:be in the form|use alphanumeric chars).*?: '(?P<model>[^']*)'"
        r"|Incorrect path_or_model_id: '(?P<model2>[^']*)'|Model (?:path|folder) .*(?:does not exist|not found)",
        _missing_path,
        N_("Correct the path, or download the model first."),
    ),
    rule(
        "config-missing",
        r"Invalid repository ID or local directory specified: '(?P<model>[^']*)'"
        r"|No such file or directory:.*/(?P<file>config\.json)"
        r"|does not appear to have a file named (?P<file2>config\.json)"
        r"|[Uu]nrecognized model in (?P<model2>\S+?)\. Should have a `model_type`"
        r"|Could not detect config format for no config file found|no (?:file named )?config\.json"
        r"|Can't load the configuration of '(?P<model3>[^']*)'",
        _without_config,
        N_("Give the folder that holds config.json itself; if it is missing there, download the model again."),
    ),
    rule(
        "tokenizer-package",
        r"need to have (?P<name>sentencepiece|tiktoken|protobuf|tokenizers) installed"
        r"|make sure you have (?P<name2>sentencepiece|tiktoken) installed"
        r"|requires the (?P<name3>\w+) library but it was not found",
        N_("The model's tokenizer needs the Python package {name}{name2}{name3}, which the engine lacks."),
        N_("Install it into the engine's environment (`pip install sentencepiece tiktoken protobuf`); or use a model "
           "folder that has a tokenizer.json."),
    ),
    rule(
        "tokenizer",
        r"Can't load tokenizer for '?(?P<model>[^'\s]*)|instantiate the backend tokenizer|tokenizer.*(?:not found"
        r"|missing|does not exist)"
        r"|Error while deserializing.*tokenizer|data did not match any variant of untagged enum|[Nn]ot a string"
        r"|vocab_file|tokenizer_config"
        r"|Tokenizer class (?P<name>\w+) does not exist|sentencepiece_processor|Unable to load (?:the )?tokenizer"
        r"|tiktoken.*(?:not|missing)",
        N_("The model's tokenizer could not be loaded."),
        N_("Check that tokenizer.json and tokenizer_config.json are in the model folder and whole; a new tokenizer "
           "may need a newer"
           " transformers."),
    ),
    rule(
        "processor",
        r"Can't load (?:the )?(?:image |feature |video )?(?:processor|extractor) for '?(?P<model>[^'\s]*)"
        r"|(?:pre)?processor_config\.json|[Uu]nrecognized (?:image )?processor",
        N_("The part of the model that prepares pictures, sound or video (preprocessor_config.json) could not be "
           "loaded."),
        N_("Check that preprocessor_config.json is in the model folder (download the model again); a new model may "
           "need a newer vLLM and transformers. For text only: --limit-mm-per-prompt '{{\"image\": 0}}'."),
    ),
    # -- what the model is -------------------------------------------------------------------------------
    rule(
        "architecture-unknown",
        r"Model architectures (?P<names>\[[^\]]*\]) (?:are|is) not supported"
        r"|Model architecture (?P<name>\S+) (?:was supported|is not supported)"
        r"|No model architectures are specified|Cannot find model module\. '(?P<name2>[^']*)'|no vLLM implementation"
        r"|[Tt]ransformers implementation of '(?P<name3>[^']*)' is not compatible",
        N_("This vLLM does not know the model's architecture {names}{name}{name2}{name3}."),
        _NEWER,
    ),
    rule(
        "architecture-broken",
        r"Model architectures (?P<names>\[[^\]]*\]) failed to be inspected",
        N_("vLLM could not load its own code for the architecture {names}."),
        N_("Most often transformers, or another package it needs, is of the wrong version or missing: `pip check` in "
           "the engine's environment names it; or build the environment anew with `qwen-tui setup`."),
    ),
    rule(
        "model-type-unknown",
        r"model type `(?P<name>[^`]*)` but Transformers does not recognize",
        N_("The installed transformers does not know models of the type “{name}”."),
        _NEWER,
    ),
    rule(
        "model-type-unknown",
        r"KeyError: '(?P<name>[a-z][\w-]*)'",
        N_("The installed transformers does not know models of the type “{name}”."),
        _NEWER,
        where=r"configuration_auto\.py:__getitem__",
    ),
    rule(
        "rope",
        r"rope_(?:scaling|parameters|type|theta)|_rope_scaling|rope.scaling",
        _ROPE,
        _AFTER_ROPE,
    ),
    rule(
        "rope",
        r"^(?:AssertionError\b|KeyError: '(?:type|rope_type|factor|original_max_position_embeddings)')",
        _ROPE,
        _AFTER_ROPE,
        where=r"_get_and_verify_max_len|rope",
    ),
    rule(
        "quantization-mismatch",
        r"Quantization method specified in the model config \((?P<model_method>[^)]*)\) does not match the"
        r" quantization method specified in the"
        r" `quantization` argument \((?P<asked>[^)]*)\)",
        N_("The model is quantized with {model_method}, but --quantization says {asked}."),
        N_("Leave --quantization out: vLLM reads it from the model."),
        _quantization_of_model,
    ),
    rule(
        "quantization-missing",
        r"Cannot find the config file for (?P<asked>\w+)|quantization method is not specified in the config"
        r"|Cannot find any of .* in the model's"
        r" quantization config",
        N_("--quantization asks for {asked}, but the model is not quantized that way."),
        N_("Leave --quantization out, or use a model that was quantized with this method (its name often ends in "
           "-AWQ or -GPTQ-Int4)."),
        _without_quantization,
    ),
    rule(
        "quantization-gpu",
        r"quantization method (?P<asked>\S+) is not supported for the current GPU\. Minimum"
        r" capability: (?P<needed>\d+)\.? Current capability:"
        r" \D*(?P<has>\d+)",
        N_("The quantization {asked} needs a GPU of compute capability {needed} or more; this one has {has}."),
        N_("Use another quantization of the model (GPTQ and AWQ run on older GPUs), or another GPU."),
    ),
    rule(
        "quantization-gpu",
        r"Quantization scheme is not supported for the current GPU\. (?:Min"
        r"|Required) capability: (?P<needed>\d+)\. Current capability: (?P<has>\d+)"
        r"|(?P<asked>\S+) quantization is currently not supported (?:in|for) (?P<device>.+?)\.|fp8e4nv not supported"
        r"|not supported on CUDA device < sm"
        r"|FP8.*(?:compute capability|not supported)",
        N_("This GPU (or CPU) can't compute with the model's quantization."),
        N_("Use another quantization of the model (GPTQ and AWQ run on older GPUs), or another GPU."),
    ),
    rule(
        "quantization-unknown",
        r"(?:Unknown|Invalid) quantization method:? (?P<asked>\S+?)\.|quantization method .* is deprecated"
        r"|unknown quantization(?:[=:] ?'?(?P<asked2>[\w-]+))?"
        r"|Unsupported (?:num_bits|weight_bits"
        r"|quantization config|scheme)|compatible scheme was found|No compressed-tensors",
        _unknown_quantization,
        N_("Use a newer vLLM or another quantization of the model; if --quantization was given, leave it out."),
    ),
    rule(
        "quantization-dtype",
        r"(?:torch\.)?(?P<dtype>\w+) is not supported for quantization method (?P<asked>\w+)\. Supported"
        r" dtypes: (?P<choices>\[[^\]]*\])",
        N_("The quantization {asked} does not work with dtype {dtype}."),
        N_("Start with a dtype it takes: {choices}"),
        _half_if_taken,
    ),
    rule(
        "quantization-shape",
        r"not aligned with the quantized weight shape|is not divisible by (?:weight|group_size|min_thread)"
        r"|group_size.*divisible|divisible.*group_size",
        N_("The quantized weights can't be split over so many GPUs."),
        N_("Lower --tensor-parallel-size."),
    ),
    rule(
        "weights-misfit",
        r"[Ss]ize mismatch|shape mismatch|size of tensor a \(\d+\) must match"
        r"|Attempted to load weight \((?P<has>[^)]*)\)|loaded_weight\.(?:shape|size)"
        r"|AssertionError: (?:param_size|Attempted)|no module or parameter named '?(?P<name>[\w.]+)"
        r"|KeyError: '(?P<name2>(?:model|lm_head|transformer|visual"
        r"|layers)\.[\w.]+)'|IndexError.*expert",
        _misfit,
        N_("Use the config.json that belongs to these weights; for a quantized model, check that its "
           "quantization_config is there."
           " A fine-tune saved as an adapter needs --enable-lora instead."),
        where=r"load|weight|model",
    ),
    rule(
        "weights-misfit",
        r"^AssertionError\b",
        N_("The weights do not fit what config.json says the model is."),
        N_("Use the config.json that belongs to these weights, and check the quantization."),
        where=r"weight_loader|load_weights|default_weight_loader",
    ),
    rule(
        "load-format",
        r"Unknown load[_ ]format:? (?P<asked>\S+)|Load format `?(?P<asked2>\w+)`? is not supported",
        N_("This vLLM does not know the load format {asked}{asked2}."),
        N_("Leave --load-format out."),
        lambda _finding: Relaunch(remove=("--load-format",)),
    ),
    rule(
        "task",
        r"does not support (?:`?--(?:runner|task)|(?:the )?(?:Completions|Chat|Embeddings|generation|pooling))"
        r"|--runner|Unsupported task|not a generative model|has no attribute 'pooler'",
        N_("The model can't do what it was started for (such as chat with an embedding model)."),
        N_("Leave --runner and --task out, or use another model."),
    ),
)  # fmt: skip
