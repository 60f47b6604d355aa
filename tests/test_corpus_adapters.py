"""Adapter files of anybody, through `generate` and `adapter info`: refused by name before anything is computed."""

import pytest
from corpus.adapters import ADAPTERS, generated, good
from corpus.cases import Case, check


@pytest.mark.parametrize("case", ADAPTERS, ids=lambda c: c.name)
def test_bad_adapters_are_refused_before_a_video_is_made(case, tmp_path, cli, capfd):
    check(case, tmp_path, cli, capfd)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["NaN", "alpha 'abc'", "cut short"])
def test_the_other_commands_refuse_them_too(name, tmp_path, cli, capfd):
    bad = next(c for c in ADAPTERS if c.name == name)
    bad.make(tmp_path)
    for words in (["info"], ["truncate", "--rank", "1"]):
        argv = ["adapter", words[0], str(tmp_path / "bad.safetensors"), *words[1:]]
        check(Case(name, lambda at, argv=argv: argv, 2, bad.words), tmp_path, cli, capfd)


@pytest.mark.parametrize("alpha", ["nan", "0", "-1", "1e30"])
def test_alpha_of_the_command_line(alpha, tmp_path, cli, capfd):
    """--alpha is for files without metadata."""
    from corpus.adapters import joined, parts

    header, data = parts(good())
    header.pop("__metadata__")
    make = generated(lambda: joined(header, data), f"--alpha={alpha}")
    argv = make(tmp_path)
    argv.remove(str(tmp_path / "good.safetensors"))
    check(Case(alpha, lambda at: argv, 2, ("bad.safetensors", "scale")), tmp_path, cli, capfd)


def test_a_good_adapter_passes_the_checks(tmp_path):
    from cosmos_exp.config.adapter_file import read_adapter
    from cosmos_exp.config.composing import compose_config

    (tmp_path / "good.safetensors").write_bytes(good())
    assert set(read_adapter(tmp_path / "good.safetensors", model=compose_config([]).model).ranks.values()) == {2}
