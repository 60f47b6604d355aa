"""Repositories of the hub, from a local cache in huggingface_hub's own layout. No network, no torch."""

import json

import pytest

from cosmos_exp import hub
from cosmos_exp.errors import UserError
from cosmos_exp.world.model_folder import COMPONENTS, PATTERNS, find_model

MAIN, TAGGED = "a" * 40, "b" * 40  # commits


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def add(cache, repository, files, revision="main", commit=MAIN, kind="models", listing=None):
    """Put a downloaded snapshot into the cache: blobs by hash, links to them, and refs/REVISION with the commit.

    listing: the files of the repository as the hub lists them, if they were recorded with the download.
    """
    folder = cache / f"{kind}--{repository.replace('/', '--')}"
    for number, (name, content) in enumerate(files.items()):
        blob = folder / "blobs" / f"{commit[0]}{number:039d}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_text(content)
        link = folder / "snapshots" / commit / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    ref = folder / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)
    if listing:
        (folder / "trees").mkdir(exist_ok=True)
        content = {"format_version": 1, "files": {n: {"size": 2, "blob_id": "0" * 40} for n in listing}}
        (folder / "trees" / f"{commit}.json").write_text(json.dumps(content))
    return folder / "snapshots" / commit


def get(way, repository, revision=None, kind="model", patterns=None):
    """`find` or `fetch`."""
    if way == "find":
        return hub.find(repository, revision, kind, patterns)
    return hub.fetch(repository, revision, kind, "data.path=DIR", patterns)


@pytest.mark.parametrize("way", ["find", "fetch"])
def test_a_revision_has_a_snapshot_of_its_own(cache, way):
    """A branch may hold slashes, as those of nvidia/Cosmos-Predict2.5-2B do; a full commit hash needs no ref."""
    main = add(cache, "org/name", {"file": "main"})
    tagged = add(cache, "org/name", {"file": "tagged"}, "diffusers/base/post-trained", TAGGED)
    assert get(way, "org/name") == get(way, "org/name", "main") == get(way, "org/name", MAIN) == main
    assert get(way, "org/name", "diffusers/base/post-trained") == get(way, "org/name", TAGGED) == tagged
    assert hub.find("org/name", "another", "model") is None


@pytest.mark.parametrize("way", ["find", "fetch"])
def test_only_the_files_of_the_patterns_count(cache, way):
    """Files outside the patterns may be missing: a model's repository holds checkpoints that no run needs."""
    listing = ["vae/config.json", "checkpoints/huge.pt"]
    folder = add(cache, "org/name", {"vae/config.json": "{}"}, listing=listing)
    assert get(way, "org/name", patterns=["vae/*"]) == folder
    assert hub.find("org/name", None, "model") is None  # all files count, and one is missing
    assert hub.find("org/name", None, "model", ["checkpoints/*"]) is None
    with pytest.raises(UserError, match=r"could not download org/name .*IncompleteSnapshotError"):
        get("fetch", "org/name", patterns=["checkpoints/*"])


@pytest.mark.parametrize(
    ("revision", "kind", "command"),
    [
        (None, "model", "`hf download org/absent`"),
        ("a/tag", "model", "`hf download org/absent --revision a/tag`"),
        (None, "dataset", "`hf download org/absent --repo-type dataset`"),
    ],
)
def test_a_missing_repository_names_every_way_out(cache, revision, kind, command):
    with pytest.raises(UserError) as caught:
        get("fetch", "org/absent", revision, kind)
    text = str(caught.value)
    assert text.startswith("could not download org/absent" + (" at revision a/tag" if revision else ""))
    assert "accept its licence" in text
    assert "`hf auth login` (or set HF_TOKEN)" in text
    assert command in text
    assert "data.path=DIR" in text
    assert len(text.splitlines()) == 2
    assert not cache.exists()
    assert command in hub.locate_repository("org/absent", revision, kind).text


def test_a_setting_names_a_repository_or_a_folder(cache, tmp_path):
    folder = add(cache, "org/name", {"file": "x"})
    assert hub.find_folder("org/name", None, "judge.source").path == folder
    assert hub.ensure_folder("org/name", None, "judge.source") == folder
    own = tmp_path / "own"
    own.mkdir()
    assert hub.find_folder(str(own), None, "judge.source") == hub.Location(own, str(own))
    assert hub.ensure_folder(str(own), None, "judge.source") == own
    for source, text in ((str(tmp_path / "absent"), "no such folder"), ("", "set it to"), (None, "set it to")):
        with pytest.raises(UserError, match=rf"judge\.source.*{text}"):
            hub.find_folder(source, None, "judge.source")


def test_a_downloaded_model_is_found_when_it_is_complete(cache, small_config):
    config = small_config("model=cosmos_predict25_2b")
    model = config.model
    assert find_model(config).path is None
    complete = {f"{c}/config.json": "{}" for c in COMPONENTS} | {"model_index.json": "{}"}
    folder = add(cache, model.source, complete, model.revision, listing=[*complete, "other/huge.pt"])
    assert find_model(config) == hub.Location(folder, str(folder))
    assert hub.fetch(model.source, model.revision, "model", "model.source=DIR", PATTERNS) == folder
    (folder / "vae" / "config.json").unlink()  # an interrupted download
    found = find_model(config)
    assert found.path is None
    assert "downloads" in found.text
