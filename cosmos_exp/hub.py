"""Fetching from the Hugging Face hub, with an error that says how to mend it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError


def fetch(repo_id: str, revision: str | None, repo_type: str, own_way: str, patterns: list[str] | None = None) -> Path:
    """The local folder of a hub repository, downloaded when it is not there yet.

    Raises:
        UserError: offline, not allowed, or not there; names the repository and the ways to mend it.
    """
    from huggingface_hub import snapshot_download

    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")
    words: dict[str, Any] = {
        "repo_id": repo_id,
        "revision": revision,
        "repo_type": repo_type,
        "allow_patterns": patterns,
    }
    try:
        return Path(snapshot_download(**words, etag_timeout=5))
    except Exception as error:
        where = f" at revision {revision}" if revision else ""
        kind = " --repo-type dataset" if repo_type == "dataset" else ""
        at = f" --revision {revision}" if revision else ""
        reason = str(error).strip().splitlines()[0][:160]
        raise UserError(
            f"could not fetch {repo_id}{where} from the hub ({type(error).__name__}: {reason}).\n"
            f"Mend it by one of: accept its licence on the hub and `hf auth login` (or set HF_TOKEN); on a machine with "
            f"a network `hf download {repo_id}{kind}{at}` and copy the folder; then give {own_way}."
        ) from error


def local_folder(source: str | None, revision: str | None, key: str) -> Path:
    """A folder by path, or the local folder of a hub repository. `key` names the setting that said so.

    Raises:
        UserError: not there and not to be fetched.
    """
    if not source:
        raise UserError(f"{key}: give a hub repository or a folder")
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.startswith(("/", "./", "../", "~")):
        raise UserError(f"{key}={source}: there is no such folder")
    return fetch(source, revision, "model", f"{key}=/path/to/the/folder")
