"""The language of everything a person reads: English, or Simplified Chinese.

`_("…")` translates at the moment it is called; `N_("…")` only marks a text for the catalogue, for constants
that are translated later, when they are drawn. Switching the language while running is `use("zh_CN")`
followed by drawing again. English texts are the catalogue's keys.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # what type checkers take for true; importing typing would cost 5 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from gettext import NullTranslations

#: Language code → its own name, as shown in the menu.
LANGUAGES: dict[str, str] = {"en": "English", "zh_CN": "简体中文"}
LOCALE_FOLDER = os.path.join(os.path.dirname(__file__), "locale")  # noqa: PTH118, PTH120 - `--help` is to be instant
DOMAIN = "qwen_tui"

#: None for English, whose texts are the keys themselves.
_translations: NullTranslations | None = None
_language = "en"


def choose(setting: str = "", environment: Mapping[str, str] | None = None) -> str:
    """The language to use: the setting if it names one, else what LANGUAGE, LC_ALL, LC_MESSAGES, LANG ask for."""
    if setting in LANGUAGES:
        return setting
    environment = os.environ if environment is None else environment
    for variable in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = environment.get(variable, "")
        if value:
            return "zh_CN" if value.lower().startswith("zh") else "en"
    return "en"


def use(language: str) -> None:
    """Translate into `language` from now on; an unknown one means English."""
    global _translations, _language
    _language = language if language in LANGUAGES else "en"
    if _language == "en":
        _translations = None
        return
    import gettext

    _translations = gettext.translation(DOMAIN, LOCALE_FOLDER, [_language], fallback=True)


def language() -> str:
    """The code of the language in use."""
    return _language


def _(message: str) -> str:
    """`message` in the language in use."""
    return _translations.gettext(message) if _translations is not None and message else message


def ngettext(singular: str, plural: str, n: int) -> str:
    """The form of the text that fits the number `n`, in the language in use."""
    if _translations is None:
        return singular if n == 1 else plural
    return _translations.ngettext(singular, plural, n)


def N_(message: str) -> str:  # noqa: N802 - gettext's usual name for "mark only"
    """`message` unchanged: marks it for the catalogue; translate it with `_` when it is drawn."""
    return message
