"""conf/ and sweeps/: everything composes, wrong requests are distinguished, hashes see what matters."""

import itertools
import subprocess
import sys

import pytest
from conftest import ROOT
from hydra.core.config_store import ConfigStore

from cosmos_exp.config.checks import check
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import conf_dir, sweeps_dir
from cosmos_exp.config.record import load_config, save_config
from cosmos_exp.config.unread import unread_keys
from cosmos_exp.errors import UserError


def choices(group):
    return sorted(p.stem for p in (conf_dir() / group).glob("*.yaml"))


@pytest.mark.parametrize("group", sorted(p.name for p in conf_dir().iterdir() if p.is_dir() and p.name != "hydra"))
def test_every_choice_of_every_group_composes(group):
    """Hydra's own groups (launchers) are composed in tests/test_launchers.py."""
    assert choices(group)
    for choice in choices(group):
        config = compose_config([f"{group}={choice}", "data.path=/somewhere"])
        assert config.data.num_frames == config.model.num_frames


def test_an_experiment_wins_over_the_groups_and_the_command_line_over_it():
    demo = compose_config(["experiment=demo"])
    assert (demo.name, demo.training.max_steps) == ("demo", 200)
    assert compose_config(["experiment=demo", "training.max_steps=5"]).training.max_steps == 5
    paper = compose_config(["experiment=paper", "adapter=dora", "rank=8", "hardware=1xh100"])
    assert (paper.data.repo_id, paper.judge.source) == ("nvidia/GR1-100", "nvidia/Cosmos-Reason2-8B")
    assert (paper.training.global_batch_size, paper.training.epochs, len(paper.generation.seeds)) == (8, 100, 5)


def test_groups_compose_freely():
    cells = itertools.product(choices("adapter"), choices("rank"), choices("alpha"))
    for (adapter, rank, alpha), hardware in zip(cells, itertools.cycle(choices("hardware"))):
        config = compose_config([f"adapter={adapter}", f"rank={rank}", f"alpha={alpha}", f"hardware={hardware}"])
        assert (config.adapter.kind, config.adapter.rank) == (adapter, int(rank))
        assert config.adapter.alpha == float(rank if alpha == "rank" else alpha)


@pytest.mark.parametrize("name", sorted(p.stem for p in sweeps_dir().glob("*.yaml")))
def test_every_sweep_composes(name):
    assert compose_config([], name, (str(sweeps_dir()),)).name == name


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rank=12x", "8, 16, 32"),
        ("alpha=-1", "adapter.alpha=NUMBER"),
        ("adapter.rnk=8", "did you mean adapter.rank"),
        ("adapter.foo=3", "known keys: adapter.alpha, "),
        ("adapter.rank=many", "adapter.rank"),
        ("adapter.rank=0", "greater than 0"),
        ("adapter.alpha=-1", "adapter.alpha"),
        ("adapter.kind=loha", "lora, dora, none"),
        ("nonsense=1", "no such key"),
        ("data.height=100", "divisible by 16"),
        ("data.width=150", "data.width"),
        ("data.num_frames=16", "4k+1"),
        ("adapter.target_modules=[to_x]", "'to_x'"),
        ("hardware=2xtpu", "8xh100"),
        ("experiment=papr", "Did you mean experiment=paper"),
        ("experiment=nope", "Choose one of demo,"),
        ("training.text_dropout=1.5", "at most 1"),
        ("data=lerobot", "data.path=DIR"),
        ("training.condition_frames={1: 0.9}", "sum to 1"),
        ("training.validation.sigmas=[0,1]", "(0, 1)"),
        ("model.transformer.num_layers=two", "model.transformer.num_layers"),
        ("generation.seeds=[1,1]", "twice"),
        ("adapter.bias=true", "adapter.init=kaiming"),
        ("rank=8,16", "add -m"),
        ("objective=instructon", "did you mean instruction"),
        ("rank: 8", "KEY=VALUE"),
    ],
)
def test_a_wrong_request_names_the_key_and_what_it_may_be(override, said):
    with pytest.raises(UserError) as caught:
        compose_config([override])
    assert said in str(caught.value)
    assert override.split("=")[0].split(".")[-1] in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("words", "unread"),
    [
        (["adapter=none", "rank=8", "alpha=16"], "rank=8 alpha=16"),
        (["adapter=none", "adapter.init=kaiming", "training.epochs=2", "training.condition_timestep=0"], "adapter.init=kaiming training.epochs=2"),
        (["data.prompt=x", "data.camera=wrist", "data.train_clips=8"], "data.prompt=x data.camera=wrist"),
        (["data=folder", "data.path=x", "data.prompt=x", "data.look=human"], "data.look=human"),
        (["judge=none", "judge.rubrics=[a.yaml]", "judge.url=http://x/v1"], "judge.rubrics=[a.yaml] judge.url=http://x/v1"),
        (["judge=rules", "judge.rubrics=[physics]", "judge.timeout=3"], "judge.timeout=3"),
        (["sampson.enabled=false", "sampson.gap=2"], "sampson.gap=2"),
        (["generation.split=none", "generation.seeds=[1]", "sampson.gap=2"], "generation.seeds=[1] sampson.gap=2"),
        (["objective=tse_robust", "seed=3"], "objective=tse_robust"),
        (["sweep.seeds=[1]", "fail_fast=true", "hydra/launcher=slurm_cpu"], "sweep.seeds=[1] fail_fast=true hydra/launcher=slurm_cpu"),
        (["hydra/launcher=slurm_cpu", "hydra.launcher.timeout_min=3"], "hydra/launcher=slurm_cpu hydra.launcher.timeout_min=3"),
        (["tracking=none", "tracking.project=x", "tags=[a]"], "tracking.project=x tags=[a]"),
        (["tracking.project=x", "tags=[a]", "judge=rules", "measures.motion=true"], ""),
        (["judge=rules", "generation.split=none", "measures.motion=true"], "judge=rules measures.motion=true"),
        (["judge=none", "generation.split=none"], ""),
    ],
)  # fmt: skip
def test_an_override_that_nothing_reads_is_named(words, unread):
    found = unread_keys(words, compose_config(words))
    assert [line.split(": no effect, because ")[0] for line in found] == unread.split()


def test_an_override_that_nothing_reads_is_said_on_the_screen(cli, capsys):
    assert cli("run", "adapter=none", "rank=8", "dry_run=true") == 0
    assert "note: rank=8: no effect, because adapter=none has no adapter" in capsys.readouterr().err


def test_errors_and_help_import_nothing_heavy():
    code = (
        "import sys; from cosmos_exp.cli.entry import main, parser; parser()\n"
        "assert not {'torch', 'hydra', 'numpy'} & set(sys.modules), 'help'\n"
        "assert main(['run', 'adapter.target_modules=[to_x]']) == 2\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), 'errors'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_saved_config_comes_back(tmp_path):
    config = compose_config(["adapter=dora", "rank=8", "alpha=16", "data.fps=8"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_the_hash_sees_results_not_hardware():
    base = stage_hash(compose_config([]))
    assert stage_hash(compose_config(["hardware.num_processes=2", "name=other", "tags=[x]", "tracking=none"])) == base
    assert stage_hash(compose_config(["seed=1"])) != base
    judged = compose_config(["judge=reason2_2b"])
    assert stage_hash(judged) != base
    assert stage_hash(judged, "train") == stage_hash(compose_config([]), "train")


def test_a_users_config_dir_adds_choices(tmp_path):
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "mine.yaml").write_text("defaults: [diffusers, _self_]\nepochs: 3\n")
    assert compose_config(["training=mine"], config_dirs=(str(tmp_path),)).training.epochs == 3


def test_a_plugin_that_stores_a_schema_of_its_own_replaces_nothing():
    ConfigStore.instance().store(name="schema", node={"mine": 1})
    assert compose_config(["rank=8"]).adapter.rank == 8


def test_import_rules():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-500:]
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+training.max_step=3"], "training.max_step: no such key; did you mean training.max_steps"),
        (["++training.max_step=3"], "training.max_step: no such key; did you mean training.max_steps"),
        (["+new=1"], "new: no such key"),
        (["~adapter"], "Write adapter=none instead"),
        (["~training.max_steps"], "none can be deleted"),
        (["hydra.launcher.partition=x"], "hydra/launcher=slurm_1xh100"),
        (["hydra.launcher.ray.init.num_cpus=2"], "hydra/launcher=ray_1xh100"),
        (
            ["hydra/launcher=submitit_local", "hydra.launcher.timeout_mins=3"],
            "did you mean hydra.launcher.timeout_min?",
        ),
        (["hydra.job.env_set.A=1"], "Put + before it to add it: +hydra.job.env_set.A=1"),
        (["hydra/sweeper=nope"], "hydra/sweeper=nope: no such sweeper"),
        (["adapter=tiny", "rank=16"], "a chosen group sets adapter.rank=4 itself"),
    ],
)
def test_an_override_that_would_be_ignored_is_an_error(words, said, tmp_path):
    own_adapter(tmp_path)
    with pytest.raises(UserError) as error:
        compose_config(words, "config", (str(tmp_path),))
    assert said in str(error.value)


def test_the_flags_of_hydra_go_anywhere_and_contradictions_are_errors(cli, capsys):
    assert cli("run", "-m", "--cfg", "job") == 2
    assert "cosmos-exp: --cfg: shows the configuration of one run" in capsys.readouterr().err
    assert cli("run", "rank=8", "-m", "alpha=8,16", "--config-name", "config", "dry_run=true", "tracking=none") == 0
    assert capsys.readouterr().out.count("lora, rank 8, alpha") == 2


def own_adapter(folder):
    (folder / "adapter").mkdir()
    (folder / "adapter" / "tiny.yaml").write_text("defaults: [lora, _self_]\nrank: 4\n")


def test_a_rank_that_an_adapter_sets_itself_is_kept(tmp_path):
    own_adapter(tmp_path)
    for words, rank, alpha in (
        (["adapter=tiny"], 4, 4),
        (["adapter=tiny", "alpha=8"], 4, 8),
        (["adapter=tiny", "adapter.rank=16"], 16, 16),
        (["adapter=lora", "rank=16"], 16, 16),
    ):
        config = compose_config(words, "config", (str(tmp_path),))
        assert (config.adapter.rank, config.adapter.alpha) == (rank, alpha), words


def test_a_pattern_that_could_take_very_long_is_refused():
    """Matching it against one layer's name takes minutes."""
    config = compose_config([])
    config.adapter.rank_pattern = {"(a|aa)*(b|[^x])*!": 4}
    with pytest.raises(UserError, match=r"adapter\.rank_pattern: .* can take very long; use at most 3"):
        check(config)
