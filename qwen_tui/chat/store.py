"""The conversations on disk: one SQLite file, mode 0600, WAL. Every call blocks: call it in a thread.

A reply that streams is appended piece by piece (table `pieces`), so that saving it costs what came, not what is there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_tui.chat.conversation import Conversation, ReplyState, Turn
from qwen_tui.chat.events import ReplyFigures
from qwen_tui.chat.harmless import encodable
from qwen_tui.chat.store_more import conversation_more, dumped, set_conversation_more, set_turn_more, turn_more
from qwen_tui.errors import ChatError, QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.paths import Paths, private_folder

VERSION = 2
#: Seconds for which a deleted conversation can be brought back; then it goes for good, at the next start.
KEEP_DELETED = 30 * 86_400
_SCHEMA = """
CREATE TABLE IF NOT EXISTS conversations (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, system TEXT NOT NULL, leaf TEXT NOT NULL, name TEXT NOT NULL,
    created REAL NOT NULL, updated REAL NOT NULL, deleted REAL, more TEXT
);
CREATE TABLE IF NOT EXISTS turns (
    id TEXT PRIMARY KEY, conversation TEXT NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
    parent TEXT NOT NULL, role TEXT NOT NULL, text TEXT NOT NULL, reasoning TEXT NOT NULL, model TEXT NOT NULL,
    state TEXT NOT NULL, figures TEXT, error TEXT, created REAL NOT NULL, more TEXT
);
CREATE TABLE IF NOT EXISTS pieces (
    turn TEXT NOT NULL REFERENCES turns(id) ON DELETE CASCADE, text TEXT NOT NULL, reasoning TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS turns_of ON turns(conversation);
CREATE INDEX IF NOT EXISTS pieces_of ON pieces(turn);
CREATE INDEX IF NOT EXISTS by_time ON conversations(updated);
"""
#: From version 1: the column for what comes beside the text.
_FROM_1 = ("ALTER TABLE conversations ADD COLUMN more TEXT", "ALTER TABLE turns ADD COLUMN more TEXT")
_TURN = "INSERT INTO turns VALUES (:id, :conversation, :parent, :role, :text, :reasoning, :model, :state, :figures, " \
    ":error, :created, :more) ON CONFLICT(id) DO UPDATE SET text = excluded.text, reasoning = excluded.reasoning, " \
    "state = excluded.state, figures = excluded.figures, error = excluded.error, more = excluded.more"  # fmt: skip
_CONVERSATION = "INSERT INTO conversations VALUES (:id, :title, :system, :leaf, :name, :created, :updated, NULL, " \
    ":more) " \
    "ON CONFLICT(id) DO UPDATE SET title = excluded.title, system = excluded.system, leaf = excluded.leaf, " \
    "name = excluded.name, updated = excluded.updated, more = excluded.more"  # fmt: skip


class StoreError(QwenTuiError):
    """The conversations can't be read or written."""


@dataclass(frozen=True)
class Entry:
    """A conversation in the list. updated: Unix time, seconds. found: the words around what was searched for."""

    id: str
    name: str
    updated: float
    turns: int
    found: str = ""


@dataclass(frozen=True)
class Snapshot:
    """What is to be saved of a conversation: itself, and the turns that changed, as rows."""

    conversation: Mapping[str, Any]
    turns: Sequence[Mapping[str, Any]]


def snapshot(conversation: Conversation, turns: Sequence[Turn] | None = None) -> Snapshot:
    """What is to be saved; `turns`: only these. Quick: no text is copied."""
    chosen = (*conversation.turns, *conversation.others) if turns is None else turns
    row = {
        "id": conversation.id,
        "title": conversation.title,
        "system": conversation.system,
        "leaf": conversation.turns[-1].id if conversation.turns else "",
        "name": conversation.name,
        "created": conversation.created,
        "updated": time.time(),
        "more": conversation_more(conversation),
    }
    return Snapshot(row, [_row(turn, conversation.id) for turn in chosen])


def _row(turn: Turn, conversation: str) -> dict[str, Any]:
    error = turn.error
    return {
        "id": turn.id, "conversation": conversation, "parent": turn.parent, "role": turn.role, "text": turn.text,
        "reasoning": turn.reasoning, "model": turn.model, "state": turn.state.value,
        "figures": json.dumps(turn.figures.to_json()) if turn.figures else None,
        "error": json.dumps([error.title, error.why, error.hint, error.status]) if error else None,
        "created": turn.created, "more": turn_more(turn),
    }  # fmt: skip


class ConversationStore:
    """All conversations of one user. Any thread may call; one at a time gets through.

    notice: what a person should be told of the opening, such as that a damaged file was set aside; else empty.
    """

    def __init__(self, paths: Paths) -> None:
        self.file: Path = paths.data / "conversations.sqlite3"
        self.notice = ""
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    # Saving

    def save(self, what: Snapshot) -> None:
        """Write a conversation and the given turns of it; pieces of these are then in their text. Raises StoreError."""
        with self._database() as database:
            database.execute(_CONVERSATION, _encodable(what.conversation))
            database.executemany(_TURN, [_encodable(row) for row in what.turns])
            database.executemany("DELETE FROM pieces WHERE turn = ?", [(row["id"],) for row in what.turns])

    def append(self, turn: str, text: str, reasoning: str = "") -> None:
        """Add what just came to a reply that was saved before. Raises StoreError."""
        with self._database() as database:
            database.execute("INSERT INTO pieces VALUES (?, ?, ?)", (turn, encodable(text), encodable(reasoning)))

    # Reading

    def list(self, limit: int = 1000, *, deleted: bool = False) -> Sequence[Entry]:
        """The conversations, the one last changed first; or those that `restore` brings back. Raises StoreError."""
        query = (
            "SELECT c.id, c.name, c.updated, (SELECT count(*) FROM turns t WHERE t.conversation = c.id) "
            "FROM conversations c WHERE (c.deleted IS NOT NULL) = ? ORDER BY c.updated DESC LIMIT ?"
        )
        with self._database() as database:
            return [Entry(*row) for row in database.execute(query, (deleted, limit))]

    def search(self, text: str, limit: int = 200) -> Sequence[Entry]:
        """Conversations with every word of `text` in their name or in one turn; the last changed first.

        Looks through the texts themselves: an index by words finds no Chinese, one by three letters no two.
        Raises StoreError.
        """
        words = text.split()
        if not words:
            return self.list(limit)
        patterns = ["%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%" for word in words]
        in_turn = " AND ".join(["t.text LIKE ? ESCAPE '\\'"] * len(words))
        in_name = " AND ".join(["c.name LIKE ? ESCAPE '\\'"] * len(words))
        query = (
            "SELECT c.id, c.name, c.updated, (SELECT count(*) FROM turns t WHERE t.conversation = c.id), "
            f"(SELECT t.text FROM turns t WHERE t.conversation = c.id AND {in_turn} LIMIT 1) AS hit "
            f"FROM conversations c WHERE c.deleted IS NULL AND (hit IS NOT NULL OR ({in_name})) "
            "ORDER BY c.updated DESC LIMIT ?"
        )
        with self._database() as database:
            rows = database.execute(query, (*patterns, *patterns, limit)).fetchall()
        return [Entry(row[0], row[1], row[2], row[3], _around(row[4] or "", words[0])) for row in rows]

    def load(self, id: str) -> Conversation:
        """The conversation, showing the branch that was shown last; a reply that was cut is STOPPED.

        Raises StoreError if there is none of that id.
        """
        with self._database() as database:
            row = database.execute("SELECT * FROM conversations WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise StoreError(_("There is no such conversation"))
            turns = [dict(found) for found in database.execute("SELECT * FROM turns WHERE conversation = ?", (id,))]
            pieces = database.execute(
                "SELECT p.turn, p.text, p.reasoning FROM pieces p JOIN turns t ON t.id = p.turn "
                "WHERE t.conversation = ? ORDER BY p.rowid", (id,),
            ).fetchall()  # fmt: skip
        more: dict[str, tuple[list[str], list[str]]] = {}
        for turn, text, reasoning in pieces:
            texts, thoughts = more.setdefault(turn, ([], []))
            texts.append(text)
            thoughts.append(reasoning)
        found = [_turn(values, *more.get(values["id"], ([], []))) for values in turns]
        conversation = Conversation(row["system"], others=found, id=id, title=row["title"], created=row["created"])
        set_conversation_more(conversation, row["more"])
        leaf = next((turn for turn in found if turn.id == row["leaf"]), None) or (found[-1] if found else None)
        if leaf is not None:
            conversation.show(leaf)
        return conversation

    def last(self) -> str:
        """The id of the conversation that was changed last; empty if there is none. Raises StoreError."""
        entries = self.list(1)
        return entries[0].id if entries else ""

    # Changing

    def rename(self, id: str, title: str) -> None:
        """Raises StoreError."""
        title = encodable(" ".join(title.split()))[:200]
        with self._database() as database:
            database.execute(
                "UPDATE conversations SET title = ?1, name = CASE WHEN ?1 = '' THEN name ELSE ?1 END WHERE id = ?2",
                (title, id),
            )

    def delete(self, id: str) -> None:
        """Take it out of the list; `restore` brings it back, for 30 days. Raises StoreError."""
        with self._database() as database:
            database.execute("UPDATE conversations SET deleted = ? WHERE id = ?", (time.time(), id))

    def restore(self, id: str) -> None:
        """Undo a `delete`. Raises StoreError."""
        with self._database() as database:
            database.execute("UPDATE conversations SET deleted = NULL WHERE id = ?", (id,))

    def duplicate(self, id: str) -> Conversation:
        """A copy with every branch, saved; its turns are its own. Raises StoreError."""
        copy = self.load(id)
        fresh = Conversation(title=_("{name} (copy)").format(name=copy.name)[:200])
        ids = {turn.id: Turn("user").id for turn in (*copy.turns, *copy.others)}
        for turn in (*copy.turns, *copy.others):
            turn.id, turn.parent = ids[turn.id], ids.get(turn.parent, "")
        copy.id, copy.title, copy.created = fresh.id, fresh.title, fresh.created
        self.save(snapshot(copy))
        return copy

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # The file

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """The open database, in a transaction. What SQLite raises becomes a StoreError."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                with self._connection:
                    yield self._connection
            except (sqlite3.Error, OSError) as error:
                raise StoreError(
                    _("The conversations can't be kept in {file}").format(file=self.file),
                    str(error),
                    _("See that the disk is not full and that the folder can be written"),
                ) from None

    def _open(self) -> sqlite3.Connection:
        private_folder(self.file.parent)
        try:
            connection = self._connect()
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                connection.close()
                raise sqlite3.DatabaseError("quick_check")
        except sqlite3.OperationalError:
            raise  # locked, a full disk, no right to read: nothing is wrong with the file
        except sqlite3.DatabaseError:
            self._set_aside()
            connection = self._connect()
        self._bring_up_to_date(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600)
        with suppress(PermissionError):
            os.fchmod(descriptor, 0o600)  # also of a file that was copied here; SQLite's own beside it get the same
        os.close(descriptor)
        connection = sqlite3.connect(self.file, timeout=5.0, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _set_aside(self) -> None:
        """Rename a file that is no sound database, with what belongs to it; nothing is deleted."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        aside = self.file.with_name(f"conversations.damaged-{stamp}.sqlite3")
        for ending in ("", "-wal", "-shm"):
            beside = Path(f"{self.file}{ending}")
            if beside.exists():
                beside.rename(f"{aside}{ending}")
        self.notice = _("The file with the conversations was damaged; it is kept as {file}").format(file=aside)

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            connection.close()
            raise StoreError(
                _("A newer qwen-tui wrote the conversations"), str(self.file), _("Update qwen-tui to see them")
            )
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version < VERSION:
            self._migrate(connection)
        with connection:
            connection.execute("DELETE FROM conversations WHERE deleted < ?", (time.time() - KEEP_DELETED,))

    @staticmethod
    def _migrate(connection: sqlite3.Connection) -> None:
        """From version 1, once, even if two programs open the file at the same moment; all of it or nothing."""
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
                for statement in _FROM_1:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")


def _encodable(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: encodable(value) if isinstance(value, str) else value for key, value in row.items()}
    return {**found, "more": dumped(row["more"])}


def _turn(row: Mapping[str, Any], texts: Sequence[str], thoughts: Sequence[str]) -> Turn:
    state = ReplyState(row["state"])
    error = json.loads(row["error"]) if row["error"] else None
    turn = Turn(
        row["role"],
        row["text"] + "".join(texts),
        row["reasoning"] + "".join(thoughts),
        row["model"],
        ReplyState.STOPPED if state.is_open else state,
        _figures(json.loads(row["figures"])) if row["figures"] else None,
        ChatError(*error) if error else None,
        row["id"],
        row["parent"],
        row["created"],
    )
    set_turn_more(turn, row["more"])
    return turn


def _figures(values: Mapping[str, Any]) -> ReplyFigures:
    return ReplyFigures(**{name: value for name, value in values.items() if name in ReplyFigures.__dataclass_fields__})


def _around(text: str, word: str, before: int = 20, length: int = 80) -> str:
    """The part of a text around a word, on one line."""
    place = max(0, text.lower().find(word.lower()) - before)
    return " ".join(text[place : place + length].split())
