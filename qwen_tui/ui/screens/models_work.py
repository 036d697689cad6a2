"""What the Models room does with a model: serve, verify, move and delete it, or download it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from qwen_tui.errors import ModelError, QwenTuiError
from qwen_tui.i18n import _
from qwen_tui.models.download_state import DownloadRequest, DownloadState
from qwen_tui.models.fit_propose import Proposal, propose
from qwen_tui.models.hub import HUBS, is_hub_id
from qwen_tui.models.local_model import LocalModel
from qwen_tui.progress import Progress, format_bytes
from qwen_tui.server.profiles import Profile
from qwen_tui.ui.screens.dialogs import Confirm, ErrorDialog
from qwen_tui.ui.text import one_line

if TYPE_CHECKING:
    from qwen_tui.ui.app import QwenApp
    from qwen_tui.ui.widgets.model_coming import ComingPart
    from qwen_tui.ui.widgets.model_here import HerePart
    from qwen_tui.ui.widgets.model_part import Part


# Serve


def profile_for(proposal: Proposal) -> Profile:
    """The proposal as what the server's form begins with."""
    flags: dict[str, bool | int | float | str | list[object]] = {"served-model-name": proposal.served_model_name}
    if proposal.max_model_len is not None:
        flags["max-model-len"] = proposal.max_model_len
    for name, value in zip(proposal.flags[::2], proposal.flags[1::2], strict=True):
        flags[name.removeprefix("--")] = value
    return Profile("", proposal.model, flags=flags, environment=proposal.environment)


async def serve(part: Part, model: LocalModel) -> None:
    """Open the server's form with what the fit proposes; for a model that is not whole, the download's."""
    if not model.is_whole and model.source in HUBS and is_hub_id(model.id):
        download_again(part, model)
        return
    try:
        profile = profile_for(propose(model, await part.qwen.services.shelf.fit_now(model)))
    except QwenTuiError as error:
        part.app.push_screen(ErrorDialog(error))
        return
    open_form(part.qwen, profile)


def open_form(qwen: QwenApp, profile: Profile) -> None:
    """The server's form; when it has started a server, the Servers room shows it."""
    from qwen_tui.ui.screens.server_form import ServerForm
    from qwen_tui.ui.screens.servers import ServersScreen

    async def started(name: str | None) -> None:
        if name is None:
            return
        qwen.choose(name)
        await qwen.refresh_servers()
        await qwen.switch_mode("servers")
        room = qwen.room
        if isinstance(room, ServersScreen):
            room.select(name)

    qwen.push_screen(ServerForm(profile=profile), started)


async def serve_download(part: ComingPart, state: DownloadState) -> None:
    """Serve what was downloaded."""
    shelf = part.qwen.services.shelf
    found = shelf.at(state.folder) if state.folder is not None else None
    if found is None:
        await shelf.look(part.changed)
        found = shelf.at(state.folder) if state.folder is not None else None
    if found is None:
        folder = one_line(str(state.folder or ""))
        part.qwen.warn(_("The model is not in {folder} any more").format(folder=folder))
        return
    await serve(part, found)


# Download


def cache_of(model: LocalModel) -> str:
    """The cache that `model` lies in, as a download is told; empty for the one that the hub's client uses."""
    root = model.root
    if model.source == "huggingface":
        cache = root.parent
    elif root != model.path:
        cache = root.parent.parent  # models/OWNER--NAME
    else:
        cache = root.parent.parent  # OWNER/NAME
        while cache.name in ("models", "hub"):
            cache = cache.parent
    return "" if cache == HUBS[model.source].cache() else str(cache)


def _revision_of(model: LocalModel) -> str:
    """The branch to complete; a commit's name stands for a snapshot of the default branch."""
    is_commit = len(model.revision) == 40
    return "" if is_commit or model.revision == HUBS[model.source].revision else model.revision


def download_again(part: Part, model: LocalModel) -> None:
    """Open the form of a download that completes or mends `model`."""
    download(part, model.id, model.source, cache_dir=cache_of(model), revision=_revision_of(model))


def download(part: Part, model: str = "", hub: str = "modelscope", *, cache_dir: str = "", revision: str = "") -> None:
    """Open the form of a new download; when one is begun, go to it."""
    from qwen_tui.ui.screens.download_form import DownloadForm

    room = part.qwen.room
    request = DownloadRequest(model, hub, revision, cache_dir)

    def begun(id: str | None) -> None:
        from qwen_tui.ui.screens.models import ModelsScreen

        if id is not None and isinstance(room, ModelsScreen):
            room.go_to_download(id)

    part.app.push_screen(DownloadForm(request), begun)


# Verify, move, delete


async def in_use(qwen: QwenApp) -> list[Path]:
    """What living servers run on, and the folders that downloads go into."""
    used = [Path(status.spec.model) for status in qwen.statuses if status.state.is_alive]
    states = await asyncio.to_thread(qwen.services.downloads.list)
    return used + [state.folder for state in states if state.status.is_alive and state.folder is not None]


async def verify(part: HerePart, model: LocalModel) -> None:
    """Check the files of `model`: against the hub's list, or where no hub answers against what is known here."""
    from qwen_tui.models.verify import verify_model

    paths, target = part.qwen.services.paths, str(model.path)

    def tell(progress: Progress) -> None:
        part.jobs[model.path] = progress

    tell(Progress(_("Checking {model}").format(model=one_line(model.id))))
    part.verified.pop(model.path, None)
    part.changed()
    try:
        try:
            part.verified[model.path] = await verify_model(paths, target, tell)
        except ModelError as error:
            part.qwen.warn(f"{one_line(error.title)}\n" + _("It is checked against what is known here."))
            part.verified[model.path] = await verify_model(paths, target, tell, offline=True)
    except QwenTuiError as error:
        part.verified[model.path] = error
    finally:
        part.jobs.pop(model.path, None)
        part.changed()


async def move(part: HerePart, model: LocalModel) -> None:
    """Ask where to, then move `model` there."""
    from qwen_tui.models.local_moving import move_model
    from qwen_tui.ui.screens.models_folder import AskFolder

    folder = await part.app.push_screen_wait(AskFolder(model))
    if folder is None:
        return

    def tell(progress: Progress) -> None:
        part.jobs[model.path] = progress

    tell(Progress(_("Moving {model}").format(model=one_line(model.id))))
    part.changed()
    try:
        moved = await move_model(model, folder, tell, await in_use(part.qwen))
        remember_folder(part.qwen, folder)
        part.listing.select(str(moved))
        part.notify(_("It is in {folder} now").format(folder=one_line(str(moved))), markup=False)
    except QwenTuiError as error:
        part.app.push_screen(ErrorDialog(error))
    finally:
        part.jobs.pop(model.path, None)
        part.changed()
    part.look()


def remember_folder(qwen: QwenApp, folder: Path) -> None:
    """Have the catalogue look into `folder` from now on, if it does not yet."""
    from qwen_tui.models.local_folders import places

    services = qwen.services
    folder = folder.expanduser().absolute()
    known = places(services.paths, [Path(name) for name in services.settings.model_folders])
    if not any(folder.is_relative_to(place.folder.absolute()) for place in known):
        qwen.save_setting(model_folders=[*services.settings.model_folders, str(folder)])


async def delete(part: HerePart, model: LocalModel) -> None:
    """Ask, naming what is lost and freed, then delete `model`."""
    from qwen_tui.models.local_changes import delete_model, plan_deletion

    try:
        plan = await asyncio.to_thread(plan_deletion, model, await in_use(part.qwen))
        lost = "\n".join(str(path) for path in plan.paths[:4])
        if len(plan.paths) > 4:
            lost += "\n" + _("and {count} more").format(count=len(plan.paths) - 4)
        text = _("{size} are freed. Lost are").format(size=format_bytes(plan.freed)) + f"\n{lost}"
        if plan.kept:
            text += "\n" + _("{size} of it stay: something else uses them.").format(size=format_bytes(plan.kept))
        question = Confirm(_("Delete {model}?").format(model=one_line(model.id)), text, _("delete it"))
        if await part.app.push_screen_wait(question) != "yes":
            return
        freed = await asyncio.to_thread(delete_model, plan, await in_use(part.qwen))
    except QwenTuiError as error:
        part.app.push_screen(ErrorDialog(error))
    else:
        part.notify(_("Deleted; {size} freed").format(size=format_bytes(freed)), markup=False)
    part.look()
