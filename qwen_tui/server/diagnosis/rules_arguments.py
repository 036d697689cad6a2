"""Arguments: what argparse refuses, and what vLLM's own checks of its configuration refuse."""

from __future__ import annotations

import re

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.corrections import near_choice, near_flag, right_choice, right_flag, set_to
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule


def _unknown_flag(finding: Finding) -> str:
    return finding.fill(N_("This vLLM does not know the argument {words}."))


def _meant_flag(finding: Finding) -> str:
    change = right_flag(finding)
    if change is not None and not change.rename:
        return _("Leave it out: older versions had it, this one does without.")
    if change is None:
        words = [word for word in finding.group("words").split() if word.startswith("--")]
        near = near_flag(finding, words[0]) if words else ""
        if not near:
            return _("Leave it out, or look for its name in this version: `vllm serve --help`.")
        return _("Did you mean {near}?").format(near=near)
    return _("Did you mean {near}?").format(near=_(", ").join(change.rename.values()))


def _leave_out(finding: Finding) -> Relaunch | None:
    """The right name, or, for one that no version near this one knows, nothing."""
    return right_flag(finding)


def _meant_choice(finding: Finding) -> str:
    near, choices = near_choice(finding), finding.group("choices")
    if near:
        return _("Did you mean {near}?").format(near=near)
    return _("Choose one of: {choices}").format(choices=choices.replace("'", "")[:400]) if choices else ""


def _no_value(finding: Finding) -> str:
    return finding.fill(N_("The argument {flag} has no value."))


def _batched(finding: Finding) -> Relaunch | None:
    length = finding.number("length")
    return Relaunch({"--max-num-batched-tokens": str(int(length))}) if length else None


def _derived(finding: Finding) -> Relaunch | None:
    """The longest context of the model: the derived length, or the model_max_length where that is longer."""
    lengths = [finding.number("derived"), finding.number("derived2"), finding.number("model_max")]
    known = [int(length) for length in lengths if length]
    return Relaunch({"--max-model-len": str(max(known))}) if known else None


_TRUST = N_(
    "If you trust whoever published the model, start with --trust-remote-code: its Python code then runs on this "
    "machine"
    " with your rights."
)


def _choose_parser(finding: Finding) -> str:
    near = near_choice(finding)
    if near:
        return _("Did you mean {near}?").format(near=near)
    choices = re.findall(r"[\w.+/-]+", finding.group("choices"))
    if choices:
        return _("Choose one of those that this vLLM has: {choices}").format(choices=_(", ").join(choices)[:400])
    return _("Choose one that `vllm serve --help` lists, or leave it out.")


RULES = (
    rule(
        "unknown-flag",
        r"error: unrecognized arguments?: (?P<words>.+)",
        _unknown_flag,
        _meant_flag,
        _leave_out,
    ),
    rule(
        "bad-choice",
        r"error: argument (?P<flag>\S+(?:, ?-\S+)*): invalid choice: '?(?P<value>[^'(]*?)'? ?\((?:maybe you"
        r" meant: [^)]*|choose from (?P<choices>.*))\)",
        N_("The argument {flag} can't be “{value}”."),
        _meant_choice,
        right_choice,
    ),
    rule(
        "bad-value",
        r"error: argument (?P<flag>\S+(?:, ?-\S+)*): invalid (?P<type>\w+) value: '?(?P<value>[^']*)'?",
        N_("The argument {flag} can't be “{value}”."),
        N_("It takes a value of the kind {type}. Correct it and start again."),
    ),
    rule(
        "no-value",
        r"error: argument (?P<flag>\S+(?:, ?-\S+)*): expected (?:one|at least one|\d+) arguments?",
        _no_value,
        N_("Give it one, or leave the argument out."),
    ),
    rule(
        "ambiguous-flag",
        r"error: ambiguous option: (?P<flag>\S+) could match (?P<choices>.+)",
        N_("The argument {flag} may mean several: {choices}."),
        N_("Write its whole name."),
    ),
    rule(
        "missing-flag",
        r"error: the following arguments are required: (?P<flag>.+)",
        N_("The argument {flag} is needed."),
        N_("Give it and start again."),
    ),
    rule(
        "bad-value",
        r"error: argument (?P<flag>\S+(?:, ?-\S+)*): (?P<text>.+)",
        N_("The argument {flag} is wrong: {text}"),
        N_("Correct it and start again."),
    ),
    rule(
        "max-model-len-over",
        r"max_model_len \(?(?P<asked>\d+)\)? is greater than the derived max_model_len"
        r" \(?(?:\w+=(?P<derived>\d+)(?:\.\d+)?|(?P<derived2>\d+))"
        r"(?: or model_max_length=(?:(?P<model_max>\d+)|\w+))?",
        N_("The context of {asked} tokens is longer than the model's own of {derived}{derived2} tokens."),
        N_("Start with --max-model-len of at most that. Only for a model that is known to work beyond it: the "
           "environment variable"
           " VLLM_ALLOW_LONG_MAX_MODEL_LEN=1."),
        _derived,
    ),
    rule(
        "batched-tokens",
        r"max_num_batched_tokens \((?P<tokens>\d+)\) is smaller than max_model_len \((?P<length>\d+)\)",
        N_("--max-num-batched-tokens ({tokens}) is smaller than the context ({length} tokens)."),
        N_("Raise --max-num-batched-tokens, or lower --max-model-len."),
        _batched,
    ),
    rule(
        "batched-tokens",
        r"max_num_batched_tokens \((?P<tokens>\d+)\) must be greater than or equal to max_num_seqs"
        r" \((?P<sequences>\d+)\)",
        N_("--max-num-batched-tokens ({tokens}) is smaller than --max-num-seqs ({sequences})."),
        N_("Lower --max-num-seqs, or raise --max-num-batched-tokens."),
        set_to("--max-num-seqs", "tokens"),  # type: ignore[arg-type]
    ),
    rule(
        "chat-template-missing",
        r"chat template string \((?P<path>.*?)\) (?:appears|looks) path-like, but (?:doesn't|does not) exist",
        N_("There is no chat template file {path}."),
        N_("Correct the path, or leave --chat-template out to use the model's own."),
        lambda _finding: Relaunch(remove=("--chat-template",)),
    ),
    rule(
        "chat-template-bad",
        r"jinja2\.exceptions\.|TemplateSyntaxError|[Cc]hat template.*(?:invalid|malformed)",
        N_("The chat template is not valid Jinja."),
        N_("Correct the file given with --chat-template, or leave the argument out to use the model's own."),
    ),
    rule(
        "tool-parser-missing",
        r"--enable-auto-tool-choice requires --tool-call-parser",
        N_("--enable-auto-tool-choice was given without --tool-call-parser."),
        N_("Add the parser of the model's family, for Qwen2.5 and Qwen3: --tool-call-parser hermes."),
    ),
    rule(
        "tool-parser-unknown",
        r"(?:invalid tool call parser: (?P<value>[^\s(]+) \(chose from \{ ?(?P<choices>[^}]*)"
        r"|[Tt]ool parser '(?P<value2>[^']*)' not found"
        r"|requires tool_parser:'(?P<value3>[^']*)' which has not)",
        N_("This vLLM has no tool parser “{value}{value2}{value3}”."),
        _choose_parser,
        lambda finding: (
            Relaunch({"--tool-call-parser": near_choice(finding)}) if near_choice(finding) else None
        ),
    ),
    rule(
        "reasoning-parser-unknown",
        r"(?:invalid reasoning parser: (?P<value>[^\s(]+) \(chose from \{ ?(?P<choices>[^}]*)"
        r"|[Rr]easoning parser '(?P<value2>[^']*)' not found"
        r"|reasoning_parser_name='(?P<value3>[^']*)' has not"
        r"|[Rr]easoning parser:?'?(?P<value4>[\w-]*)'? which has not)",
        N_("This vLLM has no reasoning parser “{value}{value2}{value3}{value4}”."),
        _choose_parser,
        lambda finding: (
            Relaunch({"--reasoning-parser": near_choice(finding)})
            if near_choice(finding)
            else Relaunch(remove=("--reasoning-parser",))
        ),
    ),
    rule(
        "parser-misfit",
        r"(?P<flags>--(?:tool-call|reasoning)-parser\S*(?: and \S+)?) cannot be used with the tokenizer of"
        r"|could not locate think start/end"
        r"|could not locate (?:the )?tool call",
        N_("The tool or reasoning parser does not fit this model: its tokens are not in the tokenizer."),
        N_("Choose the parser of the model's family, or leave it out."),
        lambda _finding: Relaunch(remove=("--reasoning-parser", "--tool-call-parser", "--enable-auto-tool-choice")),
    ),
    rule(
        "trust-remote-code",
        r"trust[_-]remote[_-]code=True|requires? you to execute the configuration file|contains custom code"
        r"|--trust-remote-code"
        r"|The repository.* custom code",
        N_("The model brings its own Python code, and vLLM was not allowed to run it."),
        _TRUST,
    ),
    rule(
        "lora-rank",
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank (?P<most>\d+)",
        N_("The LoRA adapter has rank {rank}, more than the {most} that were allowed."),
        N_("Start with a larger --max-lora-rank."),
        lambda finding: Relaunch({"--max-lora-rank": finding.group("rank")}),
    ),
    rule(
        "lora",
        r"No adapter found for (?P<path>\S+)|Loading lora (?P<path2>\S+) failed|adapter_config\.json"
        r"|LoRAAdapterNotFound|LoRA adapter .*not"
        r"|doesn't contain tensors|unsupported LoRA weight|expected target modules in|not supported for LoRA"
        r"|does not support LoRA"
        r"|PEFTHelper|peft_helper",
        N_("A LoRA adapter could not be loaded."),
        N_("Check its folder (adapter_config.json and adapter_model.safetensors) and that it was made for this "
           "model; in"
           " --lora-modules write name=path."),
    ),
    rule(
        "lora-disabled",
        r"lora_request .* but LoRA is not enabled|[Cc]annot .*lora.*(?:without|unless).*enable|--enable-lora",
        N_("LoRA adapters were given, but LoRA is not enabled."),
        N_("Start with --enable-lora."),
        lambda _finding: Relaunch({"--enable-lora": ""}),
    ),
    rule(
        "environment-variable",
        r"Invalid value '?(?P<value>[^'\s]*)'? (?:for|in) (?P<name>[A-Z][A-Z0-9_]{3,})"
        r"|Unknown vLLM environment variable detected: (?P<name2>\w+)"
        r"|VLLM_PORT '(?P<port>[^']*)'",
        N_("The environment variable {name}{name2} has a value that vLLM does not take."),
        N_("Correct it, or leave it unset."),
    ),
    rule(
        "bad-json",
        r"JSONDecodeError|is not (?:a )?valid JSON|Not deserializable to dict|cannot be converted to",
        N_("An argument should be JSON, and is not."),
        N_("In a shell put single quotes around JSON: --limit-mm-per-prompt '{{\"image\": 2}}'."),
        where=r"arg_utils|argparse_utils|argparse\.py",
    ),
    rule(
        "no-model",
        r"No model specified|`model` should be provided as the first positional argument",
        N_("No model was given."),
        N_("Give a model folder or a hub id."),
    ),
    rule(
        "ssl-files",
        r"SSLError|FileNotFoundError|PermissionError|ssl_keyfile|ssl-keyfile",
        N_("The certificate or its key could not be read."),
        N_("Check --ssl-certfile and --ssl-keyfile."),
        where=r"create_ssl_context|ssl_keyfile|ssl-keyfile",
    ),
)  # fmt: skip


def _short(finding: Finding) -> str:
    """The message of the error without its type and without pydantic's tail, at most a few lines."""
    text = finding.error.text
    for mark in ("Value error, ", "Assertion failed, "):
        if mark in text:
            text = text.split(mark, 1)[1]
            break
    else:
        text = text.split(": ", 1)[-1]
    return text.split(" [type=", 1)[0][:400]


#: Tried after every other rule.
GENERIC = (
    rule(
        "speculative",
        r"[Ss]peculative|num_speculative_tokens|draft model|draft_model|SpeculativeConfig",
        lambda finding: _("The settings for speculative decoding don't work: {error}").format(error=_short(finding)),
        N_("Correct --speculative-config, or leave it out."),
        lambda _finding: Relaunch(remove=("--speculative-config",)),
    ),
    rule(
        "combination",
        r"mutually exclusive|(?:is|are) (?:not compatible|incompatible) with|cannot be (?:used|combined"
        r"|enabled) (?:together|with)|not supported (?:together )?with"
        r"|does not (?:yet )?support|is not supported|can only be set when|must be (?:less than|greater than|at least"
        r"|>=?|<=?) ",
        lambda finding: _("The settings don't go together: {error}").format(error=_short(finding)),
        N_("Change or leave out the setting it names."),
        where=r"/vllm/config/|/vllm/config\.py|/vllm/engine/arg_utils|/cli_args",
    ),
    rule(
        "setting",
        r"ValidationError: \d+ validation errors? for (?P<config>\w+)"
        r" (?P<field>(?!Value error,|Assertion failed,)\w[\w.]*)\S*"
        r" (?P<text>.*?) \[type=",
        N_("The setting {field} of {config} is wrong: {text}"),
        N_("Correct it and start again."),
    ),
)  # fmt: skip
