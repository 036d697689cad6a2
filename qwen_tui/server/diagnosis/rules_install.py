"""The engine's environment: packages, shared libraries, Python itself."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.model import Finding, Relaunch, rule

_SETUP = N_("Build the engine's environment anew with `qwen-tui setup`, or install what is missing into it.")


def _of_library(finding: Finding) -> str:
    file = finding.group("file")
    if file.startswith(("libGL", "libglib", "libgthread", "libSM", "libXext", "libXrender")):
        return _("It belongs to the system: `apt install libgl1 libglib2.0-0` (or what the system calls them).")
    return _(
        "It belongs to CUDA or to a package of the engine: install an engine that fits the machine's CUDA with "
        "`qwen-tui setup`, or add the library's folder to LD_LIBRARY_PATH."
    )


def _spawn(finding: Finding) -> Relaunch | None:
    forked = "forked subprocess" in finding.error.text
    return Relaunch(env={"VLLM_WORKER_MULTIPROC_METHOD": "spawn"}) if forked else None


RULES = (
    rule(
        "vllm-missing",
        r"No module named '?vllm'?(?![.\w])|No module named 'vllm'|vllm: (?:command )?not found|'vllm': No such file",
        N_("vLLM is not installed in the Python that was started."),
        N_("Choose the environment that has it (`--engine PATH`), or install one with `qwen-tui setup`."),
    ),
    rule(
        "vllm-incomplete",
        r"No module named '?(?P<module>vllm\.[\w.]+)'?"
        r"|cannot import name '(?P<name>\w+)' from (?:partially initialized module )?'(?P<module2>vllm[\w.]*)'",
        N_("This vLLM has no {module}{module2}: it is damaged, mixed from two versions, or too old for this command."),
        N_("Build the engine's environment anew with `qwen-tui setup`; don't start it from a folder that has a vllm "
           "folder in it."),
    ),
    rule(
        "torchvision-mismatch",
        r"operator torchvision::nms does not exist|torchvision.*(?:undefined symbol|Couldn't load custom C\+\+ ops)"
        r"|PyTorch has CUDA [Vv]ersion.*torchvision"
        r"|PyTorch and torchvision (?:were|was) compiled with different|partially initialized module 'torchvision'",
        N_("torchvision does not belong to the installed torch."),
        N_("Remove torchvision (and torchaudio, torchcodec) from the engine's environment or install those built for "
           "its torch; `qwen-tui"
           " setup` repairs it."),
    ),
    rule(
        "library-mismatch",
        r"(?P<file>[\w./-]+\.so[\w.]*): undefined symbol: (?P<symbol>\S+)|undefined symbol",
        N_("A compiled part of the engine ({file}) does not fit the other parts, usually torch."),
        N_("vLLM, torch and its extensions must be of matching versions: build the environment anew with `qwen-tui "
           "setup`."),
    ),
    rule(
        "system-too-old",
        r"version `(?P<name>GLIBC(?:XX)?_[\d.]+|CXXABI_[\d.]+)' not found",
        N_("The system's C library is too old for this engine: it lacks {name}."),
        N_("Use a newer system or container image, or an engine built for this one."),
    ),
    rule(
        "library-missing",
        r"(?P<file>lib[\w.+-]+\.so[\w.]*): cannot open shared object file|Error loading '?(?P<file2>[\w./-]+)'?"
        r"|failed to map segment",
        N_("The library {file}{file2} is missing."),
        _of_library,
    ),
    rule(
        "flash-attention",
        r"No module named '?(?P<module>flash_attn|xformers|flashinfer|vllm_flash_attn)[\w.]*'?|(?P<module2>flash_attn"
        r"|xformers|flashinfer)\b.*(?:not installed|not found"
        r"|is required|[Mm]ismatch|incompatible)|install (?P<module3>flash-attn|xformers|flashinfer)",
        N_("The package {module}{module2}{module3} is missing or does not fit."),
        N_("Install the version that this vLLM asks for into the engine's environment, or unset "
           "VLLM_ATTENTION_BACKEND."),
    ),
    rule(
        "transformers-version",
        r"cannot import name '(?P<name>\w+)' from '(?P<module>(?:transformers|tokenizers|huggingface_hub|accelerate"
        r"|compressed_tensors|outlines|mistral_common|xgrammar)[\w.]*)'"
        r"|(?P<module2>transformers|tokenizers|huggingface.hub)[\w.]*[<>=!]=?[\d.]+.* (?:is|are) required"
        r"|all_special_tokens_extended|requires transformers",
        lambda finding: _("The installed {module} is not of the version that vLLM or the model needs.").format(
            module=finding.group("module") or finding.group("module2") or "transformers"
        ),
        N_("Install the version that this vLLM asks for (`pip check` in the engine's environment names it)."),
    ),
    rule(
        "numpy-version",
        r"compiled using NumPy 1\.x|numpy\.dtype size changed|module 'numpy' has no attribute"
        r"|numpy\.core\.multiarray failed|_ARRAY_API not found|Numpy is not available",
        N_("The installed NumPy is not of the version that other packages were built for."),
        N_("Install the NumPy that this vLLM asks for (often `pip install 'numpy<2'`) into the engine's environment."),
    ),
    rule(
        "python-version",
        r"^SyntaxError: invalid syntax|unsupported operand type\(s\) for \|: 'type'"
        r"|'type' object is not subscriptable|requires Python|No module named 'tomllib'"
        r"|Python \S+ is not supported|unexpected keyword argument 'slots'"
        r"|cannot import name '(?P<name>\w+)' from 'typing'",
        N_("The engine's Python is too old (or too new) for this vLLM."),
        N_("Use a Python that this vLLM supports (3.10 to 3.13 for current ones): `qwen-tui setup`."),
    ),
    rule(
        "spawn-main",
        r"before the current process has finished its bootstrapping phase|freeze_support\(\)"
        r"|Cannot re-initialize CUDA in forked subprocess|daemonic processes are"
        r" not allowed to have children",
        N_("The engine's processes were started in a way that does not work with CUDA or with this script."),
        N_("Set VLLM_WORKER_MULTIPROC_METHOD=spawn; in a script of your own, start the engine under `if __name__ == "
           "\"__main__\":`."),
        _spawn,
    ),
    rule(
        "import-shadowed",
        r"partially initialized module '(?P<module>[\w.]+)' .*circular import",
        N_("Importing {module} goes in a circle: a file of the same name is in the way, or the installation is "
           "damaged."),
        N_("Look for a file or folder of that name where the server was started; else build the environment anew "
           "with `qwen-tui setup`."),
    ),
    rule(
        "protobuf-version",
        r"Descriptors cannot (?:not )?be created directly|protobuf|google\.protobuf",
        N_("The installed protobuf is not of the version that other packages need."),
        N_("Install the protobuf that this vLLM asks for (`pip check` in the engine's environment names it)."),
    ),
)  # fmt: skip
#: Tried after every other rule.
GENERIC = (
    rule(
        "module-missing",
        r"No module named '?(?P<module>[\w.]+)'?|(?P<module2>[\w-]+) is not installed"
        r"|[Pp]lease install (?P<module3>[\w.\[\]-]+)|`?pip install (?P<module4>[\w.\[\]=<>-]+)",
        N_("The engine lacks the Python package {module}{module2}{module3}{module4}."),
        _SETUP,
    ),
    rule(
        "import-failed",
        r"(?:Import|ModuleNotFound)Error: (?P<text>.+)",
        N_("A package of the engine can't be imported: {text}"),
        _SETUP,
    ),
)  # fmt: skip
