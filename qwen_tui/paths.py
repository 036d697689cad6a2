"""Where qwen-tui keeps things: the XDG folders, made with mode 0700.

Nothing here creates a folder at import; `private_folder` does, when something is about to be written.
"""

from __future__ import annotations

import os
from pathlib import Path

APP = "qwen-tui"


class Paths:
    """The folders of one user. Source: XDG Base Directory Specification 0.8.

    Not a dataclass: `--help` looks for the settings file, and importing dataclasses would double its time.
    """

    def __init__(self, config: Path, data: Path, state: Path, cache: Path) -> None:
        self.config = config
        self.data = data
        self.state = state
        self.cache = cache

    @classmethod
    def from_environment(cls) -> Paths:
        """The folders that XDG_*_HOME (or their defaults) name."""

        def base(variable: str, default: str) -> Path:
            value = os.environ.get(variable, "")
            # The specification: a relative path is to be ignored.
            root = Path(value) if value.startswith("/") else Path.home() / default
            return root / APP

        return cls(
            config=base("XDG_CONFIG_HOME", ".config"),
            data=base("XDG_DATA_HOME", ".local/share"),
            state=base("XDG_STATE_HOME", ".local/state"),
            cache=base("XDG_CACHE_HOME", ".cache"),
        )

    @property
    def settings_file(self) -> Path:
        return self.config / "settings.toml"

    @property
    def managed_engine(self) -> Path:
        """The virtual environment that `qwen-tui setup` builds unless told `--path`."""
        return self.data / "engine"

    @property
    def models(self) -> Path:
        """Models that qwen-tui made or downloaded without being told where to."""
        return self.data / "models"

    @property
    def servers(self) -> Path:
        """One folder per server: its specification, its state, its logs."""
        return self.state / "servers"


def private_folder(path: Path) -> Path:
    """`path`, created with its parents where missing; a folder made here has mode 0700."""
    if not path.is_dir():
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step, mode 0600: a reader sees the old file or the new one, never half."""
    private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def nearest_existing(path: Path) -> Path:
    """`path`, or the first of the folders above it that exists: on whose file system it would be made."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
