"""Repositories of the Hugging Face hub. `find…` uses only what is on this machine, `fetch` and `ensure…` download."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from cosmos_exp.errors import UserError
from cosmos_exp.files import as_disk_error
from cosmos_exp.text import one_line


@dataclass(frozen=True)
class Location:
    """Where a model or a data set is.

    path: its local folder; None if it is not on this machine yet.
    text: one line for the user. Without a path it says how a run gets the files.
    """

    path: Path | None
    text: str


class Repository(NamedTuple):
    """What a run reads from the hub.

    key: the setting that names it.
    files: patterns of the files that count; None: all.
    """

    repo_id: str
    revision: str | None
    repo_type: str
    key: str
    files: list[str] | None = None


def find(repo_id: str, revision: str | None, repo_type: str, patterns: list[str] | None = None) -> Path | None:
    """The local folder of a hub repository that was downloaded before, or None. Needs no network.

    Args:
        revision: branch, tag or commit; None: the default branch.
        repo_type: "model" or "dataset".
        patterns: the files that count, e.g. `["vae/*"]`; None: all.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo_id, revision=revision, repo_type=repo_type, allow_patterns=patterns, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Path(folder)


def fetch(
    repo_id: str, revision: str | None, repo_type: str, alternative: str, patterns: list[str] | None = None
) -> Path:
    """The local folder of a hub repository, downloaded if needed.

    Args:
        revision, repo_type, patterns: as in `find`.
        alternative: the setting that names a local folder instead, for the error.

    Raises:
        UserError: offline, no access, or no such repository. It names the repository and the ways to fix it.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
        if find(repo_id, revision, repo_type, patterns) is None:
            print(f"downloading {repo_id}", file=sys.stderr, flush=True)
    try:
        with _ending_at_once():
            folder = snapshot_download(
                repo_id, revision=revision, repo_type=repo_type, allow_patterns=patterns, etag_timeout=5
            )
    except Exception as error:
        where = f" at revision {revision}" if revision else ""
        full = as_disk_error(error, Path(constants.HF_HUB_CACHE))
        if full:
            raise full from error
        reason = str(error).strip().partition("\n")[0][:160]
        raise UserError(
            f"could not download {repo_id}{where} from the hub ({type(error).__name__}: {reason}).\n"
            "To fix this, do one of: accept its licence on the hub and run `hf auth login` (or set HF_TOKEN); or, on a "
            f"machine with a network, run `{download_command(repo_id, revision, repo_type)}`, copy the folder, and set "
            f"{alternative}."
        ) from error
    return Path(folder)


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """Ctrl-C ends the process. An exception would wait for each file that is being downloaded, which takes minutes."""

    def end(number: int, frame: FrameType | None) -> None:
        for descriptor in Path("/proc/self/fd").glob("*"):
            with contextlib.suppress(OSError):
                file = os.readlink(descriptor)
                if file.endswith(".incomplete"):  # it has a name of its own, so that nothing would continue it
                    os.unlink(file)
        os.write(2, b"\ncosmos-exp: interrupted; the same command downloads the files that are not complete\n")
        os._exit(1)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a run that is recorded has its own
    if usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is end:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def access_problem(repo_id: str, repo_type: str) -> str | None:
    """What keeps a repository that is not on this machine from being downloaded, or None. Asks the hub, once a process.

    The words are the same for all repositories where the hub cannot be asked.
    """
    from huggingface_hub import auth_check, constants, get_token
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    link = f"{constants.ENDPOINT}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    try:
        auth_check(repo_id, repo_type=repo_type)
    except GatedRepoError:
        login = "" if get_token() else ", then run `hf auth login`: this machine has no login"
        return f"its licence is not accepted. Accept it at {link} {login}".rstrip()
    except RepositoryNotFoundError:
        return f"the hub has no such repository, or not for this login ({link}). Run `hf auth login`."
    except OfflineModeIsEnabled:
        return "not on this machine, and HF_HUB_OFFLINE is set. Unset it, or copy the cache of the hub."
    except Exception as error:  # of the connection, by one of several libraries
        reason = f"{type(error).__name__}: {one_line(error).replace(repo_id, '…')[:160]}"
        return f"not on this machine, and the hub does not give it ({reason}). See {constants.ENDPOINT}."
    return None


def download_command(repo_id: str, revision: str | None, repo_type: str) -> str:
    """The shell command that downloads a repository."""
    kind = " --repo-type dataset" if repo_type == "dataset" else ""
    return f"hf download {repo_id}{kind}" + (f" --revision {revision}" if revision else "")


def locate_repository(
    repo_id: str, revision: str | None, repo_type: str, patterns: list[str] | None = None
) -> Location:
    """`find` with one line for the user."""
    folder = find(repo_id, revision, repo_type, patterns)
    if folder is not None:
        return Location(folder, str(folder))
    command = download_command(repo_id, revision, repo_type)
    return Location(None, f"{repo_id}: not on this machine; the run downloads it (or run `{command}` first)")


def is_path(source: str) -> bool:
    """True if `source` names a folder; False if it names a hub repository."""
    return source.startswith(("/", "./", "../", "~")) or Path(source).expanduser().exists()


def find_folder(source: str | None, revision: str | None, key: str) -> Location:
    """Where a folder or the files of a hub repository are. Downloads nothing.

    Args:
        key: the setting that holds `source`, for the error.

    Raises:
        UserError: `source` is empty, or the path does not exist.
    """
    if not source:
        raise UserError(f"{key}: set it to a hub repository or a folder")
    if not is_path(source):
        return locate_repository(source, revision, "model")
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise UserError(f"{key}={source}: no such folder. Give one that exists.")
    return Location(folder, str(folder))


def ensure_folder(source: str | None, revision: str | None, key: str) -> Path:
    """The folder that `source` names, or the local folder of a hub repository, downloaded if needed.

    Raises:
        UserError: as `find_folder` and `fetch`.
    """
    location = find_folder(source, revision, key)
    if location.path is not None and is_path(str(source)):
        return location.path
    # Not `location.path`: a branch may have moved on, and an earlier download may be incomplete.
    return fetch(str(source), revision, "model", f"{key}=/path/to/the/folder")
