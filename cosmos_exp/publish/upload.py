"""The upload of a published folder to the Hugging Face hub. What is there afterwards is compared file by file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id

from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import file_sha256
from cosmos_exp.publish.folder import Published
from cosmos_exp.text import one_line

_CONNECTIONS = ("httpx", "httpx2", "httpcore", "requests", "urllib3")  # packages of errors of a connection
_LOGIN = "Run `hf auth login` with a token that may write, or set HF_TOKEN"


def check_target(repository: str) -> None:
    """Check what can be checked before anything is written or sent.

    Raises:
        UserError: the name is not USER/NAME, the hub is switched off, or there is no token.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--to {one_line(repository)}: {one_line(error)}") from error
    if repository.count("/") != 1:
        raise UserError(f"--to {repository}: write USER/NAME, the name of a user or an organisation first.")
    if constants.HF_HUB_OFFLINE:
        raise UserError("--to: HF_HUB_OFFLINE is set, so that nothing can be uploaded. Unset it, or leave --to out.")
    if not get_token():
        raise UserError(f"--to {repository}: there is no token for the hub. {_LOGIN}.")


def upload(published: Published, repository: str, private: bool) -> str:
    """Create the repository if it does not exist, and upload the folder. Returns its address.

    Raises:
        UserError: the hub refuses the token, the name or the card.
        RunError: the hub cannot be reached, or not all files are there. The message says what is there.
    """
    api = HfApi()
    created = False
    try:
        published.card.validate()
        url = api.create_repo(repository, private=private or None, exist_ok=True)
        created = True
        api.upload_folder(
            repo_id=repository, folder_path=published.folder, commit_message="Upload with cosmos-exp publish"
        )
        missing = _missing(api, repository, published)
    except Exception as error:
        state = _state(api, repository, published) if created else "Nothing was uploaded"
        raise _explained(error, repository, published, state) from error
    if missing:
        raise RunError(
            f"--to {repository}: {len(missing)} of {len(published.files)} files are not on the hub as they are in "
            f"{published.folder}, e.g. {missing[0]}. Upload it again: hf upload {repository} {published.folder}"
        )
    return str(url)


def _missing(api: HfApi, repository: str, published: Published) -> list[Path]:
    """The files that are not on the hub with this content."""
    there: dict[str, set[str]] = {}
    for entry in api.list_repo_tree(repository, recursive=True):
        lfs = getattr(entry, "lfs", None)
        there[entry.path] = {str(getattr(entry, "blob_id", "")), str(lfs.sha256) if lfs else ""}
    return [
        name for name in published.files if not _hashes(published.folder / name) & there.get(name.as_posix(), set())
    ]


def _hashes(file: Path) -> set[str]:
    """By which the hub names a file's content: SHA-256 of a large one, git's hash of a small one."""
    content = file.read_bytes()
    return {file_sha256(file), hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()}


def _state(api: HfApi, repository: str, published: Published) -> str:
    """What is on the hub after a failure, in words."""
    try:
        there = len(published.files) - len(_missing(api, repository, published))
    except Exception:  # whatever the connection raises: the failure itself is reported
        return f"{repository} exists on the hub; what is in it could not be listed"
    return f"{repository} exists on the hub and holds {there} of {len(published.files)} files"


def _explained(error: Exception, repository: str, published: Published, state: str) -> UserError:
    """The error in words, with what is on the hub and the way out."""
    status = getattr(error.response, "status_code", None) if isinstance(error, HfHubHTTPError) else None
    reason = one_line((str(error).strip().splitlines() or [type(error).__name__])[0])[:200]
    where = f"--to {repository}: "
    then = f"then: hf upload {repository} {published.folder}\n({state}; {published.folder} is complete. {reason})"
    if status == 401:
        return UserError(f"{where}the hub does not accept the token. {_LOGIN}, {then}")
    if status in (403, 404):
        owner = repository.partition("/")[0]
        return UserError(
            f"{where}this token may not write there. Use a token with the right to write to {owner}, or your own name before "
            f"the slash, {then}"
        )
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return UserError(f"{where}the hub refuses the card or the request. Correct what it names, {then}")
    package = type(error).__module__.partition(".")[0]
    unreachable = package in _CONNECTIONS or isinstance(error, (ConnectionError, TimeoutError))
    what = f"the hub cannot be reached ({constants.ENDPOINT})" if unreachable else "the upload failed"
    return RunError(f"{where}{what}. Try again later, {then}")
