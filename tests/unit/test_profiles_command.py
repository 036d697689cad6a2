"""`qwen-tui profiles`, and `serve` with a profile, as whole processes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.test_cli import Run, cli, fake_environment

__all__ = ["cli", "fake_environment"]  # fixtures

COMMAND = "VLLM_USE_MODELSCOPE=True vllm serve qwen/Q --max-model-len 2048 --seed 7"


def test_a_profile_is_imported_shown_exported_and_deleted(cli: Run, tmp_path: Path) -> None:
    assert "tensor-parallel" in cli("profiles").stdout
    done = cli("profiles", "import", "mine", "--command", COMMAND, "--json")
    assert done.returncode == 0, done.stderr
    file = Path(json.loads(done.stdout)["file"])
    assert file.read_text().startswith('model = "qwen/Q"')
    assert cli("profiles", "import", "mine", "--command", COMMAND).returncode == 2
    exported = cli("profiles", "export", "mine").stdout
    assert exported.splitlines()[0] == "VLLM_USE_MODELSCOPE=True \\"
    assert json.loads(cli("profiles", "show", "mine", "--json").stdout)["flags"] == {"max-model-len": 2048, "seed": 7}
    assert cli("profiles", "delete", "mine").returncode == 0
    assert not file.exists()


def test_serve_begins_with_a_profile(cli: Run, fake_environment: Path) -> None:
    cli("profiles", "import", "mine", "--command", COMMAND)
    options = ("--engine", str(fake_environment), "--plan", "--json")
    done = cli("serve", "--profile", "mine", *options, "--port", "18401", "--", "--enforce-eager")
    assert json.loads(done.stdout)["lines"], done.stderr
    assert cli("serve", "--profile", "mien", *options).returncode == 2
