"""Published folders: the snippet in plain diffusers, the card, private text, refusals, the upload.

The runs are the records of docs/demo.tar.xz with adapters and videos made here, so that nothing is trained.
"""

import re
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import move
from diffusers import CosmosTransformer3DModel
from huggingface_hub import HfApi, ModelCard

from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Adapter
from cosmos_exp.data.video import write_video
from cosmos_exp.files import file_sha256, read_json, write_json
from cosmos_exp.publish.neutral import neutral
from cosmos_exp.run_folder import ADAPTER_FILE, ADAPTER_NAME
from cosmos_exp.tabletop.build import WEIGHTS
from cosmos_exp.world.adapter import inject, save_adapter
from cosmos_exp.world.model_folder import ModelFolder

HOST, USER = "gpu17.zzlab.example", "zzalice"
HOME = f"/home/{USER}"
RANK = {"rank": 8, "alpha": 16.0}
ADAPTERS = {"lora-r8": {"kind": "lora"} | RANK, "dora-r8": {"kind": "dora"} | RANK, "full": {"kind": "full"}}
SAMPLES = ["robot_0000_left", "robot_0000_right", "robot_0001_left"]
STEPS = 2


def make_adapter(run, adapter):
    """A trained-looking adapter of rank 8 at scale 2, or all weights moved, whose record names a private path."""
    transformer = CosmosTransformer3DModel.from_pretrained(WEIGHTS / "transformer", torch_dtype=torch.float32)
    parameters = inject(transformer.requires_grad_(False), Adapter(**adapter), 0)
    move(parameters, 0.02 if "rank" in adapter else 0.01)
    record = {"base_model": "embedded", "note": f"{HOME}/robot on {HOST}"}
    save_adapter(transformer, run / "adapter", record, ModelFolder(WEIGHTS, WEIGHTS))


def make_run(folder, adapter):
    """Turn a copy of a demo record into a run of a user with private names, an adapter and videos."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["run_dir"], config["cache_dir"] = f"{HOME}/outputs/{folder.name}", f"{HOME}/cache"
    config["judge"]["url"], config["tracking"]["entity"] = "http://10.1.2.3:8000/v1", "zzteam"
    if adapter:
        config["adapter"] = adapter
    config["generation"]["num_steps"] = STEPS
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    manifest = read_json(folder / "manifest.json")
    manifest |= {"host": HOST, "job": {"submitted": f"{USER}@{HOST}", "log": f"{HOME}/slurm/1.out"}}
    manifest["model"]["path"] = f"{HOME}/cosmos_exp/tabletop/weights"
    if adapter:
        make_adapter(folder, adapter)
        files = sorted((folder / "adapter").iterdir())
        manifest["trained"]["files"] = {f"adapter/{file.name}": file_sha256(file) for file in files}
    for k, sample in enumerate(SAMPLES):
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
    for name in ("base", *ADAPTERS):
        shutil.copytree(demo_records / ("lora-r8" if name == "full" else name), sweep / name)
        make_run(sweep / name, ADAPTERS.get(name))
    return sweep


@pytest.fixture
def run(original, tmp_path):
    """A copy of the LoRA run to change, with the base beside it."""
    return shutil.copytree(original, tmp_path / "sweeps" / "mine") / "lora-r8"


@pytest.fixture(scope="module")
def published(original, tmp_path_factory):
    """Each run's folder, with the base of its sweep in the table."""
    from cosmos_exp.cli import main

    out = tmp_path_factory.mktemp("hub")
    for name in ADAPTERS:
        assert main(["publish", str(original / name), "--out", str(out / name)]) == 0
    return out


def code_of(folder):
    """The card's Python code."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_snippet_gives_the_videos_of_this_package_in_plain_diffusers(name, published, tmp_path, monkeypatch, cli):
    """At the trained scale 2, against `cosmos-exp generate`."""
    folder, pairs = (
        shutil.copytree(published / name, tmp_path / "hub"),
        tmp_path / "pairs",
    )  # Python compiles its module
    pairs.mkdir()
    shutil.copyfile(folder / "conditioning" / "0.png", pairs / "a.png")
    (pairs / "a.txt").write_text(ModelCard.load(folder / "README.md").data.widget[0]["text"])
    settings = [f"generation.num_steps={STEPS}", "generation.merge_adapter=false"]
    made = []  # before they are compressed
    monkeypatch.setattr("cosmos_exp.generation.videos.write_video", lambda path, frames, *_: made.append(frames))
    words = [
        "--adapter",
        folder / ("transformer" if name == "full" else ADAPTER_FILE),
        "base",
        "--prompts",
        pairs,
        "--out",
        tmp_path / "ours",
    ]
    assert cli("generate", *words, *settings) == 0
    with_adapter, base = (frames.astype(float) for frames in made)
    code, place = code_of(folder), '"path/to/cosmos_exp/tabletop/weights"'
    assert code.count(f"base = {place}") == 1
    (tmp_path / "snippet.py").write_text(code.replace(place, repr(str(WEIGHTS))))
    monkeypatch.chdir(folder)
    with monkeypatch.context() as elsewhere:  # a machine without this package
        elsewhere.setattr(sys, "path", list(sys.path))
        for module in list(sys.modules):
            if module.partition(".")[0] == "cosmos_exp":
                elsewhere.setitem(sys.modules, module, None)
        frames = runpy.run_path(str(tmp_path / "snippet.py"))["frames"]
    frames = np.stack([np.asarray(frame) for frame in frames]).astype(float)
    assert np.abs(frames - with_adapter).mean() < 0.01  # grey levels; 0 to 1 where a value is rounded the other way
    assert np.abs(frames - base).mean() > 4


# --- the folder and the card ---
PRIVATE = re.compile(
    rf"{USER}|zzteam|zzmodels|{HOST}|gpu17|zzlab|10\.1\.2\.3"
    r"|(?<![\w./<])/(?:home|work|tmp|root|usr|var|data|mnt|etc|Users)/|[A-Za-z]:\\"
)


def private_texts(folder):
    """What is private in any file of a folder, adapters' headers included, or in its name."""
    matches = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            content = content[8 : 8 + int.from_bytes(content[:8], "little")]
        if file.suffix in (".mp4", ".png"):
            content = b""
        if match := PRIVATE.search(file.name + " " + content.decode()):
            matches.append((file.name, match.group()))
    return matches


def data_of(file):
    content = file.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


def test_a_folder_has_the_adapter_with_its_records_and_nothing_private(published, original):
    assert len(private_texts(original)) == 11  # the test would find it
    assert private_texts(published) == []
    folder, source = published / "lora-r8", original / "lora-r8"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        *(ADAPTER_FILE, "config.yaml", "manifest.json", "metrics.json", "README.md", "linear_autoencoder.py"),
        *("conditioning/0.png", "videos/1.mp4", "videos/2.mp4", "videos/3.mp4"),
    }
    config, before = load_config(folder / "config.yaml"), load_config(source / "config.yaml")
    assert (config.adapter, config.training, config.run_dir) == (before.adapter, before.training, None)
    assert (folder / "metrics.json").read_text() == (source / "metrics.json").read_text()
    assert data_of(folder / ADAPTER_FILE) == data_of(source / ADAPTER_NAME)
    manifest = read_json(folder / "manifest.json")
    assert manifest["published"]["adapter_sha256"] == file_sha256(folder / ADAPTER_FILE)
    for number, sample in enumerate(SAMPLES, 1):
        assert data_of(folder / f"videos/{number}.mp4") == data_of(source / "videos" / f"{sample}__seed0.mp4")


def test_the_card_says_what_the_records_say(published, original):
    """The header is read back by huggingface_hub."""
    card = ModelCard.load(published / "lora-r8" / "README.md")
    data, measures = card.data, read_json(original / "lora-r8" / "metrics.json")["measures"]
    assert (data.library_name, data.pipeline_tag, data.license) == ("diffusers", "image-to-video", "mit")
    assert data.base_model is None  # the embedded model is on no hub
    results = {result.metric_type: result for result in data.eval_results}
    assert results.keys() == {name for name, summary in measures.items() if summary["mean"] is not None}
    for name, result in results.items():
        assert result.metric_value == pytest.approx(measures[name]["mean"])
        interval = {key: result.metric_args.get(key) for key in ("n", "ci_low", "ci_high")}
        assert interval.items() <= measures[name].items()
    assert re.search(r"\| measure +\| adapter +\| base +\| real +\| frozen +\|", card.text)
    assert "| scale | 2 (alpha / rank) |" in card.text
    assert "lora_magnitude_vector" not in card.text
    assert "lora_magnitude_vector" in (published / "dora-r8" / "README.md").read_text()


def test_a_cosmos_model_is_named_with_its_licence(run, cli, tmp_path):
    """Read from a private folder, by a run without videos: the snippet is for an image of the user."""
    shutil.rmtree(run / "videos")
    config = yaml.safe_load((run / "config.yaml").read_text())
    manifest = read_json(run / "manifest.json")
    config["model"] |= {"name": "cosmos_predict25_2b", "source": "zzmodels/cosmos"}
    config["model"] |= {"revision": "diffusers/base/post-trained", "builder": None}
    config["data"] |= {
        "reader": "gr1_100",
        "repo_id": "nvidia/GR1-100",
        "test_repo_id": "nvidia/EVAL-175",
        "builder": None,
    }
    config["generation"]["negative_prompt"] = "default"
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    manifest["model"] |= {"path": f"{HOME}/zzmodels/cosmos", "source": "zzmodels/cosmos"}
    write_json(run / "manifest.json", manifest)
    assert cli("publish", run, "--out", tmp_path / "out") == 0
    card, code = ModelCard.load(tmp_path / "out" / "README.md"), code_of(tmp_path / "out")
    assert (card.data.base_model, card.data["base_model_relation"]) == ("nvidia/Cosmos-Predict2.5-2B", "adapter")
    assert (card.data.license, card.data.license_name) == ("other", "nvidia-open-model-license")
    assert card.data.datasets == ["nvidia/GR1-100"]
    assert "NVIDIA Open Model License" in (tmp_path / "out" / "NOTICE").read_text()
    compile(code, "snippet", "exec")
    assert 'base = "nvidia/Cosmos-Predict2.5-2B"' in code
    assert 'from_pretrained(base, revision="diffusers/base/post-trained"' in code
    assert 'image=load_image("first_frame.png")' in code
    assert private_texts(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("see /data/zz/x.mp4, then stop", "see ***, then stop"),
        ("C:\\Users\\zz\\x", "***"),
        ("http://gpu17:8000/v1", "***"),
        ("zz@lab.org at 10.0.0.7:22", "*** at ***"),
        ("hf_" + "a" * 30, "***"),
        ("node Zalice-07 of zalice", "node ***-07 of ***"),
        *[(text, text) for text in ("https://huggingface.co/nvidia/x", "Pick up 1/2 of the left/right cups / bowls")],
    ],
)
def test_private_text_is_hidden_and_other_text_is_kept(text, hidden):
    assert neutral({"a": [text]}, ("zalice",)) == {"a": [hidden]}


# --- refusals ---
def set_state(run):
    write_json(run / "status.json", read_json(run / "status.json") | {"state": "failed"})
    return "not finished (failed). Resume it with"


def change_adapter(run):
    (run / ADAPTER_NAME).write_bytes((run / ADAPTER_NAME).read_bytes()[:-1] + b"x")
    return "changed since the training. Put the trained file back"


def take_base(run):
    shutil.rmtree(run)
    (run.parent / "base").rename(run)
    return "adapter.kind=none: the base model has no adapter"


def fill_out(run):
    (run.parents[2] / "out").mkdir()
    (run.parents[2] / "out" / "mine").write_text("x")
    return "exists already"


WRONG = [set_state, change_adapter, take_base, fill_out]


@pytest.mark.parametrize("change", WRONG, ids=lambda change: change.__name__)
def test_what_cannot_be_published_is_refused_with_the_fix(change, run, tmp_path, answered):
    message = change(run)
    answered(["publish", run, "--out", tmp_path / "out"], 2, message)
    assert not (tmp_path / "out" / "README.md").exists()


# --- the upload ---
def test_an_upload_gets_the_folder_and_a_failed_one_says_how_to_repeat_it(original, tmp_path, monkeypatch, answered):
    asked = []
    monkeypatch.setattr("cosmos_exp.publish.folder.get_token", lambda: "hf_x")
    monkeypatch.setattr(HfApi, "create_repo", lambda self, name, **keys: asked.append((name, keys)) or "https://hub/x")
    monkeypatch.setattr(HfApi, "upload_folder", lambda self, **keys: asked.append(keys))
    words = ["publish", original / "lora-r8", "--to", "zzlab/robot", "--out"]
    answered([*words, tmp_path / "a", "--private"], 0, "uploaded: https://hub/x")
    assert asked[0] == ("zzlab/robot", {"private": True, "exist_ok": True})
    assert (asked[1]["repo_id"], asked[1]["folder_path"]) == ("zzlab/robot", tmp_path / "a")
    assert "folder = snapshot_download('zzlab/robot')" in code_of(tmp_path / "a")
    monkeypatch.undo()
    monkeypatch.setattr("cosmos_exp.publish.folder.get_token", lambda: "hf_x")
    answered([*words, tmp_path / "b"], 1, f"hf upload zzlab/robot {tmp_path / 'b'}")
    assert (tmp_path / "b" / "README.md").is_file()


def test_a_wrong_target_is_refused_before_anything_is_written(original, tmp_path, answered, monkeypatch):
    monkeypatch.setattr("cosmos_exp.publish.folder.get_token", lambda: None)
    for to, message in (("robot", "write USER/NAME"), ("zzlab/robot", "no token for the hub. Run `hf auth login`")):
        answered(["publish", original / "lora-r8", "--out", tmp_path / "a", "--to", to], 2, message)
    assert not (tmp_path / "a").exists()
