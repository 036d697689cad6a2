"""The hubs a model is fetched from: names, rights, and the way there."""

from __future__ import annotations

from qwen_tui.i18n import N_, _
from qwen_tui.server.diagnosis.model import Finding, rule

_REACH = N_(
    "Check the network, the proxy (HTTPS_PROXY) and DNS; in China set VLLM_USE_MODELSCOPE=True or "
    "HF_ENDPOINT=https://hf-mirror.com;"
    " or download the model first and give its folder."
)


def _unreachable(finding: Finding) -> str:
    model = finding.facts.argument("model")
    host = finding.group("host") if "host" in finding.match.groupdict() else ""
    if host and model:
        return _("The hub {host} could not be reached to fetch {model}.").format(host=host, model=model)
    if model:
        return _("The model hub could not be reached to fetch {model}.").format(model=model)
    return _("The model hub could not be reached.")


def _host(finding: Finding) -> str:
    named = finding.elsewhere(r"host='([\w.-]+)'|https?://([\w.-]+)")
    return (named[1] or named[2]) if named else _("the hub")


_HUB = r"huggingface|modelscope|transformers|requests/|httpx|urllib3"
RULES = (
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
        unless=r"[Gg]ated ?[Rr]epo|is restricted|gated repository",
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
        "hub-certificate",
        r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|certificate verify failed",
        lambda finding: _("The connection to {host} was refused: its certificate is not one that this machine "
                          "trusts.").format(host=_host(finding)),
        N_("Behind a company's proxy set REQUESTS_CA_BUNDLE and SSL_CERT_FILE to its certificate; else check the "
           "machine's clock, and install ca-certificates. Or download the model elsewhere and give its folder."),
        where=_HUB,
    ),
    rule(
        "hub-proxy",
        r"ProxyError|Cannot connect to proxy|Unable to connect to proxy|Tunnel connection failed|socksio|SOCKSHTTPS?",
        lambda finding: _("{host} could not be reached: the proxy does not answer or refuses.").format(
            host=_host(finding)
        ),
        N_("Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or unset them; put addresses that need no proxy into "
           "NO_PROXY."),
        where=_HUB,
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
        where=_HUB,
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
)  # fmt: skip
