"""The model: its files, its configuration, its tokenizer, its architecture, its quantization; and the hubs."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule

_AGAIN = N_("Download the model again: whole files are kept, missing and damaged ones fetched (then start it again).")
_REACH = N_(
    "Check the network, the proxy (HTTPS_PROXY) and DNS; in China set VLLM_USE_MODELSCOPE=True or "
    "HF_ENDPOINT=https://hf-mirror.com;"
    " or download the model first and give its folder."
)
_NEWER = N_("Use a newer vLLM (and transformers), or a model that this version knows.")


def _asked_model(finding: Finding) -> str:
    return finding.group("model") or finding.facts.argument("model") or "?"


def _missing_path(finding: Finding) -> str:
    model = _asked_model(finding)
    if model.startswith(("/", "~", ".")):
        return _("There is no model folder {model}.").format(model=model)
    return _("“{model}” is neither a model folder nor a name on the hub.").format(model=model)


def _unreachable(finding: Finding) -> str:
    model = finding.facts.argument("model")
    host = finding.group("host") if "host" in finding.match.groupdict() else ""
    if host and model:
        return _("The hub {host} could not be reached to fetch {model}.").format(host=host, model=model)
    if model:
        return _("The model hub could not be reached to fetch {model}.").format(model=model)
    return _("The model hub could not be reached.")


def _damaged_json(finding: Finding) -> str:
    named = finding.elsewhere(r"config file at '([^']*)'")
    if named:
        return _("The model's configuration file {file} is not valid JSON.").format(file=named[1])
    return _("A JSON file of the model (config.json, tokenizer.json, an index …) is damaged.")


def _shard(finding: Finding) -> str:
    return _("Weight files of the model are missing: {files}").format(
        files=finding.group("files").strip("[]{}()")[:300]
    )


def _without_quantization(_finding: Finding) -> Relaunch:
    return Relaunch(remove=("--quantization",))


def _quantization_of_model(finding: Finding) -> Relaunch | None:
    return _without_quantization(finding) if finding.group("model_method") else None


def _half_if_taken(finding: Finding) -> Relaunch | None:
    takes_half = "float16" in finding.group("choices").replace("bfloat16", "")
    return Relaunch({"--dtype": "half"}) if takes_half else None


RULES = (
    # -- files ------------------------------------------------------------------------------------------
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
        r"|invalid load key|UnpicklingError|corrupted|file is truncated|storage has wrong byte size"
        r"|size mismatch for data",
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
        r"|does not appear to have a file named (?:pytorch_model|model)"
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
        r"|Could not detect config format for no config file found|no (?:file named )?config\.json",
        N_("The model folder has no usable config.json."),
        N_("Give the folder that holds config.json itself; if it is missing there, download the model again."),
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
    # -- hubs -------------------------------------------------------------------------------------------
    rule(
        "hub-gated",
        r"[Gg]ated ?[Rr]epo|403 Client Error|Access to model (?P<model>\S+) is restricted|Cannot access gated"
        r"|awaiting a review"
        r"|not in the authorized list|is a gated repository",
        N_("The model is gated: its publisher gives access only to those who asked for it."),
        N_("Ask for access on the model's page, then start with HF_TOKEN set to a token of that account; or use "
           "ModelScope."),
    ),
    rule(
        "hub-unauthorized",
        r"401 Client Error|Invalid (?:user ?name|credentials)|Invalid token|HfHubHTTPError.*401|NotExistError.*login"
        r"|token.*(?:expired|invalid)",
        N_("The hub refused the request: there is no such model, or it needs a token that is allowed to read it."),
        N_("Check the model's name; for a private one set HF_TOKEN (Hugging Face) or MODELSCOPE_API_TOKEN."),
    ),
    rule(
        "hub-not-found",
        r"RepositoryNotFoundError|404 Client Error|is not a local folder and is not a valid model identifier"
        r"|Repository Not Found|NotExistError"
        r"|record not found|The request model: (?P<model>\S+) does not exist|RevisionNotFound"
        r"|is not a valid git identifier|Model (?:id )?not exist",
        N_("The hub has no such model (or no such revision)."),
        N_("Check the name: hub ids have the form owner/name, and the two hubs (ModelScope, Hugging Face) spell "
           "owners differently."),
    ),
    rule(
        "hub-offline",
        r"OfflineModeIsEnabled|outgoing traffic has been disabled|HF_HUB_OFFLINE|offline mode is enabled"
        r"|TRANSFORMERS_OFFLINE|local_files_only",
        N_("The model is not on this machine, and HF_HUB_OFFLINE keeps vLLM from fetching it."),
        N_("Download it first and give its folder, or unset HF_HUB_OFFLINE (and TRANSFORMERS_OFFLINE)."),
    ),
    rule(
        "hub-rate",
        r"429 Client Error|Too Many Requests|rate limit",
        N_("The hub refused more requests for now."),
        N_("Wait a few minutes, or set HF_TOKEN; or download from ModelScope."),
    ),
    rule(
        "hub-unreachable",
        r"[Cc]ouldn't connect to '(?:https?://)?(?P<host>[^'/]*)|[Nn]ame or service not known"
        r"|Temporary failure in name resolution"
        r"|No address associated|NameResolutionError|MaxRetryError|NewConnectionError|ProxyError"
        r"|Cannot connect to proxy|Network is unreachable"
        r"|LocalEntryNotFoundError|Connection ?Error.*(?:hub|hugging|modelscope)|SSLError|CERTIFICATE_VERIFY_FAILED"
        r"|ConnectTimeout|ReadTimeout"
        r"|error happened while trying to locate the file|offline-mode|Connection refused.*http|ConnectError"
        r"|50\d (?:Server Error|Bad Gateway)",
        _unreachable,
        _REACH,
        where=r"huggingface|modelscope|transformers|requests/|httpx|urllib3",
    ),
    rule(
        "hub-checksum",
        r"FileIntegrityError|FileDownloadError|Consistency check failed|checksum|hash.*mismatch",
        N_("A file from the hub arrived damaged."),
        N_("Download the model again; if it stays so, the hub or a proxy on the way is at fault."),
    ),
    rule(
        "modelscope-missing",
        r"install modelscope|No module named 'modelscope'|Using vLLM with ModelScope",
        N_("VLLM_USE_MODELSCOPE is set, but the engine has no modelscope."),
        N_("Install it into the engine's environment (`pip install modelscope`), or unset VLLM_USE_MODELSCOPE."),
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
        "model-type-unknown",
        r"model type `(?P<name>[^`]*)` but Transformers does not recognize|KeyError: '(?P<name2>qwen\w*|llama\w*"
        r"|glm\w*|deepseek\w*|gemma\w*|mistral\w*|phi\w*)'"
        r"|does not recognize this architecture",
        N_("The installed transformers does not know models of the type “{name}{name2}”."),
        _NEWER,
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
        r"|Unsupported (?:num_bits|weight_bits"
        r"|quantization config|scheme)|compatible scheme was found|No compressed-tensors",
        N_("This vLLM does not know how the model is quantized."),
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
        N_("The weights do not fit what config.json says the model is."),
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
        r"|--runner|Unsupported task|not a generative model",
        N_("The model can't do what it was started for (such as chat with an embedding model)."),
        N_("Leave --runner and --task out, or use another model."),
    ),
)  # fmt: skip
