"""Repositories of the Hugging Face hub. `find…` uses only what is on this machine, `fetch` and `ensure…` download."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.errors import UserError


@dataclass(frozen=True)
class Location:
    """Where a model or a data set is.

    path: its local folder; None if it is not on this machine yet.
    text: one line for the user. Without a path it says how a run gets the files.
    """

    path: Path | None
    text: str


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
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
        print(f"downloading {repo_id}", file=sys.stderr, flush=True)
    try:
        folder = snapshot_download(
            repo_id, revision=revision, repo_type=repo_type, allow_patterns=patterns, etag_timeout=5
        )
    except Exception as error:
        where = f" at revision {revision}" if revision else ""
        reason = str(error).strip().splitlines()[0][:160]
        raise UserError(
            f"could not download {repo_id}{where} from the hub ({type(error).__name__}: {reason}).\n"
            "To fix this, do one of: accept its licence on the hub and run `hf auth login` (or set HF_TOKEN); or, on a "
            f"machine with a network, run `{download_command(repo_id, revision, repo_type)}`, copy the folder, and set "
            f"{alternative}."
        ) from error
    return Path(folder)


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
    found = find_folder(source, revision, key)
    if found.path is not None and is_path(str(source)):
        return found.path
    # Not `found.path`: a branch may have moved on, and an earlier download may be incomplete.
    return fetch(str(source), revision, "model", f"{key}=/path/to/the/folder")
