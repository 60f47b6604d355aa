"""Work that the processes of a run divide: whichever begins first, nothing is left out. Found by `make soak` on a busy machine."""

from pathlib import Path
from types import SimpleNamespace

from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment import evaluate
from cosmos_exp.run_folder import RunFolder

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

    folder = RunFolder(tmp_path)

    def write(context, kind, pair):
        written.append((kind, pair.name))
        path = folder.reference_video(kind, pair.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    monkeypatch.setattr(evaluate, "write_reference", write)
    pairs = [TestPair(n, n, Path(n), Path(n)) for n in NAMES]
    for rank in (0, 1):
        context = SimpleNamespace(config=small_config("measures.references=true"), processes=of(rank), folder=folder)
        evaluate.write_references(context, pairs)
    assert sorted(written) == sorted((kind, n) for kind in ("real", "frozen") for n in NAMES)
