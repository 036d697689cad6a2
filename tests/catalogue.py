"""The translators' tool: what texts the program has, and what the Chinese catalogue says of them.

    python -m tests.catalogue

brings qwen_tui.po up to date (new texts get an empty translation, gone ones are dropped) and compiles it.
"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

PACKAGE = Path(__file__).parent.parent / "qwen_tui"
PO = PACKAGE / "locale" / "zh_CN" / "LC_MESSAGES" / "qwen_tui.po"
MO = PO.with_suffix(".mo")
KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}


def extracted() -> Catalog:
    """Every text that the source marks."""
    catalogue = Catalog(project="qwen-tui", charset="utf-8")
    for file, _line, message, _comments, context in extract_from_dir(
        PACKAGE, [("**.py", "python")], keywords=KEYWORDS, strip_comment_tags=True
    ):
        catalogue.add(message, locations=[(f"qwen_tui/{file}", 0)], context=context)
    return catalogue


def chinese() -> Catalog:
    """The Chinese catalogue as it stands."""
    with PO.open("rb") as file:
        return read_po(file, locale="zh_CN")


def compiled(catalogue: Catalog) -> bytes:
    """The .mo file that belongs to `catalogue`."""
    buffer = BytesIO()
    write_mo(buffer, catalogue)
    return buffer.getvalue()


def write(catalogue: Catalog) -> None:
    """Write the .po, without dates, line numbers or files that would change without reason, and the .mo."""
    catalogue.creation_date = catalogue.revision_date = datetime(2026, 1, 1, tzinfo=timezone.utc)
    catalogue.header_comment = "# The texts of qwen-tui in Simplified Chinese."
    catalogue.fuzzy = False
    catalogue.last_translator = catalogue.language_team = "qwen-tui"
    catalogue.msgid_bugs_address = "qwen-tui"
    with PO.open("wb") as file:
        write_po(file, catalogue, no_location=True, omit_header=False, sort_output=True, ignore_obsolete=True, width=0)
    MO.write_bytes(compiled(chinese()))


def main() -> int:
    catalogue = (
        chinese()
        if PO.exists()
        else Catalog(locale="zh_CN", project="qwen-tui", version="1", charset="utf-8", fuzzy=False)
    )
    catalogue.update(extracted(), no_fuzzy_matching=True)
    write(catalogue)
    empty = [message.id for message in catalogue if message.id and not all_translated(message.string)]
    for text in empty:
        print(text)
    print(f"{len(catalogue)} texts, {len(empty)} without a translation", file=sys.stderr)
    return 0


def all_translated(string: str | tuple[str, ...]) -> bool:
    """Whether a translation, or each of its plural forms, is there."""
    return bool(string) if isinstance(string, str) else bool(string) and all(string)


if __name__ == "__main__":
    sys.exit(main())
