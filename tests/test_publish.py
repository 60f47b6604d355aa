"""Published folders: the snippet in plain diffusers, the card, private text, refusals; the upload to a stand-in of the hub.

The runs are the records of docs/demo.tar.xz with adapters and videos made here, so that nothing is trained.
"""

import contextlib
import json
import re
import runpy
import shutil
import sys

import hub_server
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from diffusers import CosmosTransformer3DModel
from huggingface_hub import ModelCard

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.measures import LIMITS, split_main
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Adapter
from cosmos_exp.data.video import write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import file_sha256, write_json
from cosmos_exp.publish.folder import copy_adapter, upload
from cosmos_exp.publish.neutral import neutral, neutral_text, private_names
from cosmos_exp.report.study import load_study
from cosmos_exp.report.verify import hash_findings, metric_findings
from cosmos_exp.run_folder import ADAPTER_FILE, ADAPTER_NAME, RunFolder
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.tabletop.build import WEIGHTS
from cosmos_exp.world.adapter import inject, save_adapter

HOST, USER = "gpu17.zzlab.example", "zzalice"
HOME = f"/home/{USER}"
ARMS = {"lora-r8": "lora", "dora-r8": "dora"}
SAMPLES = ["robot_0000_left", "robot_0000_right", "robot_0001_left"]
SCORED = [*SAMPLES, "robot_0001_right"]
STEPS = 2


def make_adapter(run, kind, **record):
    """A trained-looking adapter of rank 8 at scale 2, whose header names a private path."""
    transformer = CosmosTransformer3DModel.from_pretrained(WEIGHTS / "transformer", torch_dtype=torch.float32)
    parameters = inject(transformer.requires_grad_(False), Adapter(kind=kind, rank=8, alpha=16.0), 0)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in parameters.items():
            if "lora_B" in name:
                p += 0.02 * torch.randn(p.shape, generator=g)
    note = {"base_model": "embedded", "note": f"{HOME}/robot on {HOST}"}
    return save_adapter(transformer, run / "adapter", note | record)


def shorten(folder, manifest):
    """Keep the scores of two scenes, as if no others had been generated."""
    files = {"measures": folder / "scores.jsonl"}
    files |= {kind: folder / "references" / kind / "scores.jsonl" for kind in ("real", "frozen")}
    metrics = json.loads((folder / "metrics.json").read_text())
    for where, file in files.items():
        if file.is_file():
            rows = [r for r in map(json.loads, file.read_text().splitlines()) if r["sample"] in SCORED]
            file.write_text("".join(json.dumps(r) + "\n" for r in rows))
            target = metrics if where == "measures" else metrics["references"]
            target[where] = summarize(rows, manifest["data"]["scenes"], LIMITS)
            manifest["evaluated"]["scores"][file.relative_to(folder).as_posix()] = file_sha256(file)
    write_json(folder / "metrics.json", metrics)


def make_run(folder, kind):
    """Turn a copy of a demo record into a run of a user with private names, an adapter and three videos."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["run_dir"], config["cache_dir"] = f"{HOME}/outputs/{folder.name}", f"{HOME}/cache"
    config["judge"]["url"], config["tracking"]["entity"] = "http://10.1.2.3:8000/v1", "zzteam"
    config["adapter"] |= {"rank": 8, "alpha": 16.0}
    config["generation"]["num_steps"] = STEPS
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"host": HOST, "job": {"submitted": f"{USER}@{HOST}", "log": f"{HOME}/slurm/1.out"}}
    manifest["model"]["path"] = f"{HOME}/cosmos_exp/tabletop/weights"
    shorten(folder, manifest)
    if kind:
        manifest["trained"]["files"][ADAPTER_NAME] = file_sha256(make_adapter(folder, kind))
    for k, sample in enumerate(SCORED):
        frames = np.full((17, 96, 160, 3), 40 * k, np.uint8)
        frames[:, 20:60, 30:90] = np.random.RandomState(k).randint(0, 256, (40, 60, 3))
        video = folder / "videos" / f"{sample}__seed0.mp4"
        write_video(video, frames, 8)
        manifest["evaluated"]["videos"][f"videos/{video.name}"] = file_sha256(video)
    write_json(folder / "manifest.json", manifest)


@pytest.fixture(scope="module")
def original(tmp_path_factory, demo_records):
    """The folder of a sweep: base, LoRA and DoRA."""
    sweep = tmp_path_factory.mktemp("outputs") / "sweeps" / "mine"
    for name in ("base", *ARMS):
        shutil.copytree(demo_records / name, sweep / name)
        make_run(sweep / name, ARMS.get(name))
    return sweep


@pytest.fixture
def sweep(original, tmp_path):
    """A copy to change."""
    return shutil.copytree(original, tmp_path / "sweeps" / "mine")


@pytest.fixture(scope="module")
def published(original, tmp_path_factory):
    """The sweep as one folder."""
    from cosmos_exp.cli import main

    out = tmp_path_factory.mktemp("hub") / "all"
    assert main(["publish", str(original), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def published_run(original, tmp_path_factory):
    """A single run, with the base of its sweep beside it in the table."""
    from cosmos_exp.cli import main

    out = tmp_path_factory.mktemp("hub") / "one"
    assert main(["publish", str(original / "lora-r8"), "--out", str(out)]) == 0
    return out


@contextlib.contextmanager
def without_this_package():
    """cosmos_exp cannot be imported, as on a machine without it."""

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "cosmos_exp":
                raise ModuleNotFoundError(name)

    kept = {k: sys.modules.pop(k) for k in list(sys.modules) if k.partition(".")[0] == "cosmos_exp"}
    path = list(sys.path)
    sys.meta_path.insert(0, blocker := Blocker())
    try:
        yield
    finally:
        sys.meta_path.remove(blocker)
        sys.path[:] = path
        for name in [k for k in sys.modules if k in ("linear_autoencoder",) or k.partition(".")[0] == "cosmos_exp"]:
            del sys.modules[name]
        sys.modules.update(kept)


def run_snippet(folder, script, monkeypatch):
    """The frames of the card's code, run in the published folder with the place of the base filled in."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    assert code.count('base = "path/to/cosmos_exp/tabletop/weights"') == 1
    assert not re.search(r"(?:import|from) cosmos_exp", code)
    script.write_text(code.replace('"path/to/cosmos_exp/tabletop/weights"', repr(str(WEIGHTS))))
    monkeypatch.chdir(folder)
    with without_this_package():
        frames = runpy.run_path(str(script))["frames"]
    assert (folder / "video.gif").is_file()
    (folder / "video.gif").unlink()
    return np.stack([np.asarray(f) for f in frames]).astype(float)


@pytest.mark.parametrize("kind", ["dora", "lora"])
def test_the_snippet_gives_the_videos_of_this_package_in_plain_diffusers(
    kind, published, published_run, tmp_path, monkeypatch, cli
):
    """DoRA from the sweep's folder, LoRA from the run's: at the trained scale 2, against `cosmos-exp generate`."""
    folder = published if kind == "dora" else published_run
    file = folder / ("dora-r8" if kind == "dora" else "") / ADAPTER_FILE
    prompt = ModelCard.load(folder / "README.md").data.widget[0]["text"].removeprefix("dora-r8: ")
    pairs = tmp_path / "pairs"
    pairs.mkdir()
    shutil.copyfile(folder / "conditioning" / "0.png", pairs / "a.png")
    (pairs / "a.txt").write_text(prompt)
    settings = [f"generation.num_steps={STEPS}", "generation.guidance_scale=1.5", "hardware.num_threads=1"]
    settings += ["generation.merge_adapter=false"]
    made = []  # before they are compressed
    monkeypatch.setattr("cosmos_exp.generation.videos.write_video", lambda path, frames, *_: made.append(frames))
    assert cli("generate", "--adapter", file, "base", "--prompts", pairs, "--out", tmp_path / "ours", *settings) == 0
    with_adapter, base = (frames.astype(float) for frames in made)
    found = run_snippet(folder, tmp_path / "snippet.py", monkeypatch)
    assert np.abs(found - with_adapter).mean() < 0.01  # grey levels; 0 to 1 where a value is rounded the other way
    assert np.abs(found - base).mean() > 4


# --- the folder and the card ---
PRIVATE = re.compile(
    rf"{USER}|zzteam|{HOST}|gpu17|zzlab|10\.1\.2\.3"
    r"|(?<![\w./<])/(?:home|work|tmp|root|usr|var|data|mnt|etc|Users)/|[A-Za-z]:\\"
)


def texts(folder):
    """Every text of a folder by name: text files whole, of an adapter its header."""
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            content = content[8 : 8 + int.from_bytes(content[:8], "little")]
        if file.suffix not in (".mp4", ".png"):
            yield file.relative_to(folder).as_posix(), content.decode()


def test_nothing_private_is_in_the_folder(published, published_run, original):
    assert sum(bool(PRIVATE.search(text)) for _, text in texts(original)) == 8  # the test would find it
    for folder in (published, published_run):
        assert [(name, found.group()) for name, text in texts(folder) if (found := PRIVATE.search(text))] == []
        assert not [p for p in folder.rglob("*") if PRIVATE.search(p.name)]


def test_the_folder_has_each_adapter_with_its_records(published, published_run, original):
    names = {p.relative_to(published).as_posix() for p in published.rglob("*") if p.is_file()}
    own = {ADAPTER_FILE, "config.yaml", "manifest.json", "metrics.json"}
    arms = {f"{arm}/{name}" for arm in ARMS for name in own}
    base = {f"base/{name}" for name in own - {ADAPTER_FILE}}
    rest = {"README.md", "linear_autoencoder.py", "conditioning/0.png", *(f"videos/{k}.mp4" for k in (1, 2, 3))}
    assert names == arms | base | rest
    assert {
        p.relative_to(published_run).as_posix() for p in published_run.rglob("*") if p.is_file()
    } == own | base | rest
    for arm in ARMS:
        config, old = (load_config(f / arm / "config.yaml") for f in (published, original))
        assert (config.adapter, config.training, config.run_dir) == (old.adapter, old.training, None)
        assert json.loads((published / arm / "metrics.json").read_text()) == json.loads(
            (original / arm / "metrics.json").read_text()
        )
        tensors = [(f / arm).rglob(ADAPTER_FILE) for f in (published, original)]
        new, old = (next(t).read_bytes() for t in tensors)
        assert data_of(new) == data_of(old)
        assert new != old  # its header named a path
        manifest = json.loads((published / arm / "manifest.json").read_text())
        assert manifest["published"]["adapter_sha256"] == file_sha256(published / arm / ADAPTER_FILE)
        assert "host" not in manifest
        assert manifest["packages"]["opencv-python-headless"] == "5.0.0.93"  # no address
    for k in (1, 2, 3):
        assert (published_run / f"videos/{k}.mp4").read_bytes() == (
            original / "lora-r8" / "videos" / f"{SAMPLES[k - 1]}__seed0.mp4"
        ).read_bytes()


def data_of(content):
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_an_adapter_without_private_text_is_copied_as_it_is(published, tmp_path):
    file = published / "lora-r8" / ADAPTER_FILE
    assert copy_adapter(file, tmp_path / "copy.safetensors", (USER, HOST)) is False
    assert (tmp_path / "copy.safetensors").read_bytes() == file.read_bytes()


def test_the_header_of_the_card_says_what_the_records_say(published, published_run, original):
    """Read back by huggingface_hub; the means against the scores."""
    data = ModelCard.load(published_run / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("diffusers", "image-to-video", "mit")
    assert {"lora", "peft", "robotics"} <= set(data.tags)
    assert data.base_model is None  # the embedded model is on no hub
    assert [w["output"]["url"] for w in data.widget] == ["videos/1.mp4", "videos/2.mp4", "videos/3.mp4"]
    measures = json.loads((original / "lora-r8" / "metrics.json").read_text())["measures"]
    own = {r.metric_type: r for r in data.eval_results}
    assert own.keys() == {m for m, s in measures.items() if s["mean"] is not None}
    for name, result in own.items():
        assert result.metric_value == pytest.approx(measures[name]["mean"])
        assert {k: result.metric_args.get(k) for k in ("ci_low", "ci_high", "n")} == {
            k: measures[name][k] for k in ("ci_low", "ci_high", "n")
        }
    rows = [json.loads(line) for line in (original / "lora-r8" / "scores.jsonl").read_text().splitlines()]
    values = [r["value"] for r in rows if r["measure"] == "instruction"]
    assert len(values) == 4  # two prompts of each of two scenes, so that the mean over scenes is the mean
    assert own["instruction"].metric_value == pytest.approx(np.mean(values))
    sweep = ModelCard.load(published / "README.md").data
    assert {"lora", "dora"} <= set(sweep.tags)
    assert {r.metric_type for r in sweep.eval_results} == set(split_main(list(own))[0])
    assert len(sweep.eval_results) == 2 * len(split_main(list(own))[0])
    assert {r.metric_name.split(", ")[1].split(" (")[0] for r in sweep.eval_results} == set(ARMS)


def test_the_card_shows_the_table_against_base_real_and_frozen(published, published_run):
    for folder in (published, published_run):
        text = (folder / "README.md").read_text()
        for row in ("real", "frozen", "base", "lora-r8"):
            assert re.search(rf"\| \*?{row}\*? +\|", text)
        assert re.search(r"\| base +\| 1 +\|.*\d \[\d", text)  # a mean with its interval
        assert "scale | 2 (alpha / rank)" in text
        assert "5adf3a904ee52258" in text  # the data's fingerprint
        assert "AMD EPYC" in text
        assert "this adapter needs 2" in text or "`lora-r8` needs 2" in text
        assert "<Gallery />" in text
        assert not re.search(r"<(?!Gallery />)[A-Za-z/!]", text.replace("<br>", ""))
    assert "lora_magnitude_vector" in (published / "README.md").read_text()
    assert "lora_magnitude_vector" not in (published_run / "README.md").read_text()


def as_cosmos(run, source, path):
    """Turn a run into one of the 2B model, as far as its records go."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"] |= {"name": "cosmos_predict25_2b", "source": source, "revision": "diffusers/base/post-trained"}
    config["model"]["builder"] = None
    config["data"] |= {
        "reader": "gr1_100",
        "repo_id": "nvidia/GR1-100",
        "test_repo_id": "nvidia/EVAL-175",
        "builder": None,
    }
    config["generation"]["negative_prompt"] = "default"
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["model"] |= {"path": path, "source": source}
    write_json(run / "manifest.json", manifest)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("nvidia/Cosmos-Predict2.5-2B", f"{HOME}/.cache/hub/models--nvidia--Cosmos-Predict2.5-2B/snapshots/abc"),
        ("zzmodels/cosmos", f"{HOME}/zzmodels/cosmos"),
    ],
)
def test_a_cosmos_model_is_named_with_its_licence_also_when_it_was_read_from_a_folder(
    source, path, sweep, cli, tmp_path
):
    as_cosmos(sweep / "lora-r8", source, path)
    assert cli("publish", sweep / "lora-r8", "--out", tmp_path / "out") == 0
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.base_model, card.data["base_model_relation"]) == ("nvidia/Cosmos-Predict2.5-2B", "adapter")
    assert (card.data.license, card.data.license_name) == ("other", "nvidia-open-model-license")
    assert card.data.datasets == ["nvidia/GR1-100"]
    assert "NVIDIA Open Model License" in (tmp_path / "out" / "NOTICE").read_text()
    assert ("The run read the base from a folder" in card.text) == source.startswith("zz")
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    compile(code, "snippet", "exec")
    assert 'from_pretrained(base, revision="diffusers/base/post-trained"' in code
    assert 'base = "nvidia/Cosmos-Predict2.5-2B"' in code
    assert [(n, f.group()) for n, t in texts(tmp_path / "out") if (f := PRIVATE.search(t))] == []
    assert "zzmodels" not in " ".join(t for _, t in texts(tmp_path / "out"))


def test_a_run_without_videos_has_a_snippet_for_the_users_own(sweep, cli, tmp_path):
    shutil.rmtree(sweep / "lora-r8" / "videos")
    assert cli("publish", sweep / "lora-r8", "--out", tmp_path / "out") == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert 'image=load_image("first_frame.png")' in text
    assert "Gallery" not in text
    assert not (tmp_path / "out" / "videos").exists()


def test_captions_and_names_are_shown_as_they_are(sweep, cli, tmp_path):
    """A record of someone else: markup in prompts, measures, reasons and the folder's name."""
    evil = "Pick <img src=x onerror=alert(1)> [up](javascript:x) | `it` ![a](b)\u202e --- {{ 7 * 7 }}"
    run = sweep.parent / "lora|r8 <b>"
    (sweep / "lora-r8").rename(run)
    rows = [json.loads(line) for line in (run / "scores.jsonl").read_text().splitlines()]
    for row in rows:
        row["prompt"] = evil
        if row["measure"] == "physics":
            row["measure"], row["value"] = "<script>", None
            row["detail"] = {"reason": "[click](http://evil)<script>alert(1)</script>"}
    (run / "scores.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = tmp_path / "out"
    assert cli("publish", run, "--out", out) == 0
    text = (out / "README.md").read_text()
    body = text.split("\n---\n", 1)[1]
    assert not re.search(r"<(?!Gallery />)[A-Za-z/!]", re.sub(r"```.*?```", "", body, flags=re.DOTALL))
    assert not re.search(r"(?<!\\)\]\((?!videos/\d+\.mp4\))", re.sub(r"```.*?```", "", body, flags=re.DOTALL))
    assert "\u202e" not in text
    assert "{{ 7" in text.replace("\\{", "{")  # not evaluated
    card = ModelCard(text).data
    assert card.widget[0]["text"].startswith("Pick <img src=x")  # YAML holds it as data
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(code, "snippet", "exec")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/home/zz/a b/c", "***"),
        ("see /data/zz/x.mp4, then stop", "see ***, then stop"),
        ("~/zz", "***"),
        ("C:\\Users\\zz\\x", "***"),
        ("../zz/run", "***"),
        ("path:/srv/zz", "path:***"),
        ("http://gpu17:8000/v1", "***"),
        ("https://huggingface.co/nvidia/x", "https://huggingface.co/nvidia/x"),
        ("zz@lab.org at 10.0.0.7:22", "*** at ***"),
        ("hf_" + "a" * 30, "***"),
        ("Pick up 1/2 of the left/right cups / bowls w/ care", "Pick up 1/2 of the left/right cups / bowls w/ care"),
        ("nvidia/Cosmos-Predict2.5-2B at diffusers/base/post-trained", "nvidia/Cosmos-Predict2.5-2B at diffusers/base/post-trained"),
        ("node Zalice-07 of zalice", "node ***-07 of ***"),
        ("zalices cup", "zalices cup"),
    ],
)  # fmt: skip
def test_private_text_is_hidden_and_other_text_is_kept(text, hidden):
    assert neutral_text(text, ("zalice",)) == hidden
    assert neutral({"a": [text], "host": text}, ("zalice",)) == {"a": [hidden]}


def test_a_user_called_lora_does_not_hide_the_adapters_kind(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "lora")
    monkeypatch.setattr("platform.node", lambda: "zznode.lab")
    names = private_names([{"host": "cosmos"}, {"log": "/home/zzbob/x"}])
    assert set(names) == {"zznode.lab", "zznode", "zzbob"}


# --- refusals ---
def edit_json(file, **changes):
    write_json(file, json.loads(file.read_text()) | changes)


def refuse_base(sweep):
    return sweep / "base", "adapter.kind=none: the base model has no adapter"


def refuse_failed(sweep):
    edit_json(sweep / "lora-r8" / "status.json", state="failed")
    return sweep / "lora-r8", "not finished (failed)"


def refuse_running(sweep):
    edit_json(sweep / "dora-r8" / "status.json", state="running")
    return sweep, "not finished (running). Wait for it"


def refuse_missing(sweep):
    (sweep / "lora-r8" / ADAPTER_NAME).unlink()
    return sweep / "lora-r8", "missing. Put the trained file back, or delete it and resume the run"


def refuse_changed(sweep):
    file = sweep / "lora-r8" / ADAPTER_NAME
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return sweep / "lora-r8", "changed since the training. Put the trained file back"


def refuse_nan(sweep):
    file = sweep / "lora-r8" / ADAPTER_NAME
    content = bytearray(file.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    manifest = json.loads((sweep / "lora-r8" / "manifest.json").read_text())
    manifest["trained"]["files"][ADAPTER_NAME] = file_sha256(file)
    write_json(sweep / "lora-r8" / "manifest.json", manifest)
    return sweep / "lora-r8", "NaN or infinite"


def refuse_video(sweep):
    video = sweep / "lora-r8" / "videos" / f"{SAMPLES[0]}__seed0.mp4"
    video.write_bytes(video.read_bytes() + b"x")
    return sweep / "lora-r8", "not the video that was scored"


def refuse_link(sweep):
    file = sweep / "lora-r8" / ADAPTER_NAME
    file.rename(sweep.parent / "elsewhere")
    file.symlink_to(sweep.parent / "elsewhere")
    return sweep / "lora-r8", "a link that leads out"


def refuse_outside(sweep):
    rows = (sweep / "lora-r8" / "scores.jsonl").read_text().replace("robot_0000_left__seed0.mp4", "../../../x.mp4")
    (sweep / "lora-r8" / "scores.jsonl").write_text(rows)
    return sweep / "lora-r8", "leaves"


def refuse_empty(sweep):
    return sweep.parent, None


def refuse_absent(sweep):
    return sweep / "absent", "the folder does not exist"


REFUSALS = [v for k, v in list(globals().items()) if k.startswith("refuse_") and k != "refuse_empty"]


@pytest.mark.parametrize("case", REFUSALS, ids=lambda f: f.__name__)
def test_what_cannot_be_published_is_refused_with_the_fix(case, sweep, tmp_path, cli, capsys):
    folder, message = case(sweep)
    capsys.readouterr()
    assert cli("publish", folder, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_kept(original, tmp_path, cli, capsys):
    (tmp_path / "mine").write_text("x")
    assert cli("publish", original, "--out", tmp_path) == 2
    assert "exists already" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


# --- the upload ---
@pytest.fixture
def hub(monkeypatch):
    """A stand-in of the hub in place of the real one, with a token for it."""
    with hub_server.serve() as server:
        for name, value in (("ENDPOINT", server.endpoint), ("HF_HUB_OFFLINE", False), ("HF_HUB_DISABLE_XET", True)):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield server


def test_an_upload_puts_every_file_on_the_hub_and_can_be_repeated(original, tmp_path, hub, cli, capsys):
    run = original / "lora-r8"
    assert cli("publish", run, "--out", tmp_path / "a", "--to", "zzlab/robot", "--private") == 0
    assert f"uploaded: {hub.endpoint}/zzlab/robot" in capsys.readouterr().out
    files = {
        p.relative_to(tmp_path / "a").as_posix(): p.read_bytes() for p in (tmp_path / "a").rglob("*") if p.is_file()
    }
    assert hub.files["zzlab/robot"] == files
    assert hub.private["zzlab/robot"] is True
    text = (tmp_path / "a" / "README.md").read_text()
    assert 'folder = snapshot_download("zzlab/robot")' in text.replace("'", '"')
    assert ModelCard(text).data.model_name == "robot"
    upload(tmp_path / "a", "zzlab/robot", private=False)
    assert hub.files["zzlab/robot"] == files


@pytest.mark.parametrize(
    ("refused", "status", "code", "said"),
    [
        ("create", 401, 2, "does not accept the token"),
        ("create", 403, 2, "this token may not write there"),
        ("preupload", 403, 2, "this token may not write there"),
        ("validate", 400, 1, "the upload failed"),
        ("commit", 413, 1, "the upload failed"),
    ],
)
def test_a_refused_upload_says_why_and_how_to_repeat_it(refused, status, code, said, published_run, hub):
    hub.refuse[refused] = status
    with pytest.raises(UserError, match=said) as caught:
        upload(published_run, "zzlab/robot", private=False)
    assert caught.value.exit_code == code
    assert f"hf upload zzlab/robot {published_run} (the folder is complete)" in str(caught.value)


def test_a_hub_that_cannot_be_reached(published_run, hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"the upload failed .* is complete") as caught:
        upload(published_run, "zzlab/robot", private=False)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("to", "setting", "code", "said"),
    [
        ("robot", {}, 2, "write USER/NAME"),
        ("zz lab/robot", {}, 2, "--to zz lab/robot"),
        ("a/b/c", {}, 2, "--to a/b/c"),
        ("zzlab/robot", {"HF_TOKEN": ""}, 2, "no token for the hub. Run `hf auth login`"),
        ("zzlab/robot", {"OFFLINE": "1"}, 2, "HF_HUB_OFFLINE is set"),
    ],
)
def test_requests_that_cannot_work(to, setting, code, said, original, tmp_path, hub, cli, capsys, monkeypatch):
    if "HF_TOKEN" in setting:
        monkeypatch.setattr("cosmos_exp.publish.folder.get_token", lambda: None)
    if "OFFLINE" in setting:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert cli("publish", original / "lora-r8", "--out", tmp_path / "a", "--to", to) == code
    assert said in capsys.readouterr().err
    assert not hub.files
    assert not (tmp_path / "a").exists()


def test_records_for_a_report_hold_nothing_private_and_still_verify(original, tmp_path):
    """benchmarks/publish_records.py: without videos and adapters."""
    sys.path.append(str(ROOT / "benchmarks"))
    import publish_records

    own = shutil.copytree(original, tmp_path / "sweep")
    for name in ("base", *ARMS):  # as the run left them, but for its private names
        folder, manifest = RunFolder(own / name), json.loads((own / name / "manifest.json").read_text())
        manifest["config_hash"] = stage_hash(load_config(folder.config))
        manifest["stages"] = {}
        write_json(folder.manifest_file, manifest)
    written, private = publish_records.publish(own, tmp_path / "out")
    assert not private
    assert [(n, f.group()) for n, t in texts(tmp_path / "out") if (f := PRIVATE.search(t))] == []
    assert {p.suffix for p in written} == {".yaml", ".json", ".jsonl"}
    study = load_study(tmp_path / "out")
    findings = [*hash_findings(study, videos=False), *metric_findings(study)]
    assert not [finding for finding in findings if "json" in finding]
