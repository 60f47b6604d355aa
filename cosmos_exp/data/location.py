"""Where training data and test pairs are: a folder, an embedded world that renders them, or a hub data set."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp import hub
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import DATA_BUILDERS
from cosmos_exp.config.schema import Config, Data
from cosmos_exp.errors import UserError
from cosmos_exp.hub import Location

GR1_TEST_FOLDER = "gr1_object"  # the test pairs inside data.test_repo_id


def find_data(config: Config) -> Location:
    """Where the training data is. Downloads and renders nothing.

    Returns:
        a path if the training data and the test pairs are on this machine, else what the run will do to get them.

    Raises:
        UserError: no setting names the data, or one names a folder or a function that does not exist.
    """
    data = config.data
    _check_settings(data)
    if data.path:
        return Location(Path(data.path), data.path)
    if data.builder:
        DATA_BUILDERS.get(data.builder)
        return Location(None, f"rendered by {data.builder} on first use, under {cache_root(config) / 'data'}")
    repositories = [data.repo_id] if data.test_path else [data.repo_id, data.test_repo_id]
    found = [hub.locate_repository(_repository(data, r), None, "dataset") for r in repositories]
    return next((f for f in found if f.path is None), found[0])


def ensure_data(config: Config) -> tuple[Path, Path | None]:
    """The folders of training data and test pairs, rendered or downloaded if needed.

    Returns:
        the second is None if there are no test pairs on disk; data.test_videos then holds clips out.

    Raises:
        UserError: as `find_data`, or the download fails.
    """
    data = config.data
    _check_settings(data)
    tests = Path(data.test_path) if data.test_path else None
    if data.path:
        return Path(data.path), tests
    if data.builder:
        folder, rendered = DATA_BUILDERS.get(data.builder)(config, cache_root(config))
        return folder, tests or rendered
    folder = hub.fetch(_repository(data, data.repo_id), None, "dataset", "data.path=DIR (and data.test_path=DIR)")
    if tests is None:
        tests = hub.fetch(_repository(data, data.test_repo_id), None, "dataset", "data.test_path=DIR") / GR1_TEST_FOLDER
    return folder, tests


def _check_settings(data: Data) -> None:
    for key, value in (("data.path", data.path), ("data.test_path", data.test_path)):
        if value and not Path(value).is_dir():
            raise UserError(f"{key}={value}: no such folder. Give one that exists.")
    if not (data.path or data.builder or data.reader == "gr1_100"):
        raise UserError("data.path: not set. Set it to the folder of your data.")


def _repository(data: Data, repo_id: str | None) -> str:
    if not repo_id:
        raise UserError(
            f"data.repo_id, data.test_repo_id: data.reader={data.reader} downloads them; set both, or set data.path"
        )
    return repo_id
