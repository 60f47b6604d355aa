"""The worked examples of docs/examples: a reader and an adapter kind."""

import runpy
import shutil

import torch
from conftest import ROOT
from diffusers import CosmosTransformer3DModel
from test_fast_transformer import tiny_inputs, tiny_model

from cosmos_exp.config.registry import ADAPTERS, READERS
from cosmos_exp.config.schema import Adapter, Data
from cosmos_exp.data.inspection import inspect_data
from cosmos_exp.data.video import write_video
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.fast_forward import fast_forward

EXAMPLES = ROOT / "docs" / "examples"


def test_add_a_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(READERS, "targets", dict(READERS.targets))
    before = set(READERS.names)
    runpy.run_path(str(EXAMPLES / "episode_folders.py"), run_name="__main__")
    (name,) = set(READERS.names) - before
    data = tmp_path / "data"
    write_video(data / "episode_0001" / "camera.mp4", Scene.sample(1, "robot").clip().frames, 8)
    (data / "episode_0001" / "task.json").write_text('{"instruction": "Wave."}')
    shutil.copytree(data / "episode_0001", data / "episode_0002")
    (data / "episode_0002" / "task.json").write_text("{")
    found = inspect_data(Data(reader=name), data, None)
    assert [c.clip.prompt for c in found.clips] == ["Wave."]
    assert len(found.problems) == 1


def plain_tiny_model():
    """The tiny transformer of test_fast_transformer without its adapter."""
    model, _ = tiny_model()
    model.unload_lora()
    return model


@torch.no_grad()
def test_add_an_adapter_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(ADAPTERS, "targets", dict(ADAPTERS.targets))
    before = set(ADAPTERS.names)
    with torch.enable_grad():
        runpy.run_path(str(EXAMPLES / "orthogonal.py"), run_name="__main__")
    (kind,) = set(ADAPTERS.names) - before
    settings, inputs = Adapter(kind=kind, rank=4, alpha=6.0), tiny_inputs()
    model = plain_tiny_model()
    assert isinstance(model, CosmosTransformer3DModel)
    base = model(**inputs)[0]
    parameters = adapters.inject(model, settings, 0)
    layers = {n.split(".lora_")[0] for n in parameters}
    assert set(parameters) == adapters.expected_names(layers, settings)
    assert (model(**inputs)[0] - base).abs().max() < 1e-5
    for parameter in parameters.values():
        parameter += 0.1 * torch.randn_like(parameter)
    trained = fast_forward(model)(**inputs)[0]
    assert (trained - base).abs().max() > 1e-3
    adapters.save_adapter(model, tmp_path, {})
    again = plain_tiny_model()
    adapters.load_adapter(again, tmp_path)
    adapters.merge(again)
    assert (again(**inputs)[0] - trained).abs().max() < 1e-5
