"""Work that the processes of a run divide: whichever begins first, nothing is left out. Found by `make soak` on a busy machine."""

from pathlib import Path
from types import SimpleNamespace

from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.stages import prepare, references

NAMES = [f"p{k}" for k in range(5)]


def of(rank):
    """One of two processes, which waits for nobody."""
    return SimpleNamespace(
        rank=rank,
        size=2,
        is_main=rank == 0,
        device="cpu",
        barrier=lambda: None,
        shard=lambda items: Processes.shard(SimpleNamespace(rank=rank, size=2), items),
    )


def test_references(small_config, tmp_path, monkeypatch):
    """The first process is done before the second one looks at the disk."""
    written = []

    def write(context, inputs, kind, pair):
        written.append((kind, pair.name))
        (tmp_path / f"{kind}_{pair.name}").touch()

    monkeypatch.setattr(references, "_write", write)
    monkeypatch.setattr(references, "_path", lambda context, kind, pair: tmp_path / f"{kind}_{pair.name}")
    inputs = SimpleNamespace(dataset=SimpleNamespace(pairs=[TestPair(n, n, Path(n), Path(n)) for n in NAMES]))
    for rank in (0, 1):
        references.write_references(SimpleNamespace(config=small_config(), processes=of(rank)), inputs)
    assert sorted(written) == sorted((kind, n) for kind in ("real", "frozen") for n in NAMES)


def test_encoded_prompts(small_config, tmp_path, monkeypatch):
    """The same for the cache of prompts, which other runs fill too."""
    cached = []
    cache = SimpleNamespace(
        missing=lambda windows, prompts: (windows, [p for p in prompts if p not in cached]),
        encode_prompt=lambda encoders, prompt: cached.append(prompt),
    )
    monkeypatch.setattr(prepare, "Encoders", lambda *arguments: None)
    pairs = [TestPair(n, n, Path(n)) for n in NAMES]
    dataset = SimpleNamespace(train=[], validation=[], pairs=pairs)
    for rank in (0, 1):
        context = SimpleNamespace(config=small_config("adapter=none"), processes=of(rank))
        prepare._encode(context, dataset, None, cache)
    assert {*NAMES, None} <= set(cached)  # None: the zero embedding
    assert len(cached) == len(set(cached))
