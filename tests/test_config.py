"""conf/ and sweeps/: everything composes, wrong requests are distinguished, hashes see what matters."""

import itertools
import pickle
import subprocess
import sys

import pytest
from conftest import ROOT
from hydra.core.config_store import ConfigStore

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import conf_dir, sweeps_dir
from cosmos_exp.config.record import load_config, save_config
from cosmos_exp.errors import DamagedError, UserError


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
    ("words", "said"),
    [
        # a typo
        ("adapter.rnk=8", "adapter.rnk: no such key; did you mean adapter.rank?"),
        ("adpter.rank=8", "adpter.rank: no such key; did you mean adapter.rank?"),
        ("learning_rate=0.1", "learning_rate: no such key; did you mean training.learning_rate?"),
        ("+training.max_step=3", "training.max_step: no such key; did you mean training.max_steps?"),
        ("adapter=loar", "adapter=loar: no such choice; did you mean lora? choose one of dora, lora, none"),
        ("rank=12", "rank=12: no such choice; choose one of 16, 32, 8, or any other number by adapter.rank=NUMBER"),
        ("judge.name=rule", "judge.name=rule: no such choice; did you mean rules?"),
        ("objective=instructon", "objective=instructon: no such choice; did you mean instruction?"),
        ("hydra/launcher=slurn_cpu", "hydra/launcher=slurn_cpu: no such choice; did you mean slurm_cpu?"),
        # a wrong type
        ("adapter.rank=many", "adapter.rank=many: Input should be a valid integer"),
        ("seed=1.5", "seed=1.5: Input should be a valid integer"),
        ("adapter.target_modules=5", "adapter.target_modules=5: Input should be a valid list"),
        ("training.epochs=null", "training.epochs=None: Input should be a valid integer"),
        ("data.swaps=[[left]]", "data.swaps.0.1=['left']: Field required"),
        ("approximate=[fp8]", "approximate"),
        ("seed=${nothing}", "seed: Interpolation key 'nothing' not found"),
        # out of range
        ("adapter.rank=0", "adapter.rank=0: Input should be greater than 0"),
        ("training.text_dropout=1.5", "training.text_dropout=1.5: Input should be less than or equal to 1"),
        ("training.learning_rate=nan", "training.learning_rate=nan: Input should be a finite number"),
        ("data.height=100", "data.height=100: Input should be a multiple of 16"),
        ("data.num_frames=16", "data.num_frames=16: must be 4k+1 (17, 93 …), e.g. 17"),
        ("training.validation.sigmas=[0.5,1]", "training.validation.sigmas.1=1: Input should be less than 1"),
        ("generation.seeds=[]", "generation.seeds=[]: List should have at least 1 item"),
        ("generation.seeds=[1,1]", "generation.seeds=[1, 1]: a seed appears twice"),
        ("training.condition_frames={1:0.9}", "training.condition_frames={1: 0.9, 2: 0.0}: probabilities"),
        ("margins.tse=0", "margins.tse=0: Input should be greater than 0"),
        ("adapter.kind=loha", "adapter.kind=loha: no such choice; did you mean lora? choose one of none, lora, dora"),
        ("name=../up", "name=../up: is the name of a folder in outputs/"),
        # what the model allows
        ("adapter.target_modules=[to_x]", "adapter.target_modules: 'to_x' matches no linear layer"),
        ("adapter.rank=300", "adapter.rank=300: transformer_blocks.0.attn1.to_q has 256 inputs and 256 outputs"),
        ("adapter.alpha=1e30", "adapter.alpha=1e+30: gives transformer_blocks.0.attn1.to_q the scale"),
        # keys that contradict each other
        ("adapter.bias=true", "adapter.bias=true: peft supports it with adapter.init=kaiming only"),
        ("hardware.checkpointing=auto", "hardware.memory_gb: not set"),
        ("training.schedule.warmup_samples=9000", "training.schedule.total_samples=2400: must be greater than"),
        ("judge=server judge.url=null", "judge.url: not set"),
        ("judge=rules judge.samples=2 judge.temperature=0", "judge.samples=2: at judge.temperature=0"),
        ("data.cameras=[a,b]", "data.cameras: data.reader=folder has one camera per video"),
        ("data=lerobot data.path=x data.cameras=[a,b,c] data.tiling=1x2", "data.tiling=1x2: 2 tiles for 3 cameras"),
        ("adapter=none adapter.truncate_from=x", "adapter.truncate_from: adapter=none has no adapter"),
        # a missing path, a key without a value, several values, a flag
        ("data=lerobot", "data.path: not set. Give the folder of your data: data.path=DIR"),
        ("data=folder data.path=/nowhere/at/all", "data.path=/nowhere/at/all: no such folder"),
        ("training.epochs", "training.epochs: cannot be parsed. Write KEY=VALUE"),
        ("seed=[1", "seed=[1: cannot be parsed"),
        ("rank=8,16", "rank=8,16: several values. Add -m to run one after another"),
        ("~adapter", "~adapter: a run needs every group and key"),
        ("+seed=1", "Could not append to config. An item is already at 'seed'."),
        ("--dry-run", "--dry-run: no such option or argument. `cosmos-exp run --help` lists them."),
        ("-m rank=8,nope", "rank=nope: no such choice"),
        ("hydra/launcher=ray", "hydra/launcher=ray: not installed. Run `pip install 'cosmos-exp[ray]'`."),
    ],
)
def test_a_wrong_request_is_one_line_that_begins_with_the_key(words, said, cli, capsys, tmp_path):
    assert cli("run", *words.split(), f"run_dir={tmp_path / 'run'}") == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[0]
    assert len(lines) <= 2
    assert not (tmp_path / "run").exists()


def test_every_wrong_key_is_named_at_once(cli, capsys):
    assert cli("run", "seed=-1", "data.fps=0", "training.validation.sigmas=[2]") == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("cosmos-exp: ").split("=")[0] for line in lines] == [
        "seed",
        "data.fps",
        "training.validation.sigmas.0",
    ]


@pytest.mark.parametrize(
    "prompt",
    ["Pick up the cup, then put it down.", "it's #1", 'say "hello"', "拿起杯子，放下", "a: {b} [c] (d) = e\\f"],
)
def test_a_prompt_of_any_characters_works_without_more_quotes(prompt):
    assert compose_config([f"data.prompt={prompt}"]).data.prompt == prompt


def test_a_comma_in_another_text_shows_the_quotes():
    with pytest.raises(UserError, match=r"or quote a text that holds a comma: \"tracking.project='a,b'\""):
        compose_config(["tracking.project=a,b"])
    assert compose_config(["tracking.project='a,b'"]).tracking.project == "a,b"


def test_other_runs_are_tested_on_the_same_videos():
    """data.split_seed is not the run's seed."""
    assert compose_config(["seed=3"]).data.split_seed == 0


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
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_configuration_does_not_change():
    config = compose_config([])
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    assert config.updated({"seed": 1, "adapter.rank": 8}).adapter.rank == 8
    assert (config.seed, config.adapter.rank) == (0, 32)


def test_a_record_that_is_cut_short_or_of_another_version_is_named(tmp_path):
    file = tmp_path / "config.yaml"
    save_config(compose_config([]), file)
    text = file.read_text()
    for content, said in (
        (text[:-3], "its last line is cut short"),
        (text[: text.index("judge:")], "judge, tracking is missing"),
        (text.replace("rank: 32", "rnk: 32"), "adapter.rnk: no such key"),
        ("[", "not valid YAML"),
        ("", "no keys and values"),
    ):
        file.write_text(content)
        with pytest.raises(DamagedError, match=said) as error:
            load_config(file)
        assert str(file) in str(error.value)


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


def test_the_flags_of_hydra_go_anywhere(cli, capsys):
    assert cli("run", "-m", "--cfg", "job") == 2
    assert "do not go with -m" in capsys.readouterr().err
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
    with pytest.raises(UserError, match=r"rank=16: another group sets adapter.rank=4. Set adapter.rank=16 instead."):
        compose_config(["adapter=tiny", "rank=16"], "config", (str(tmp_path),))
