"""conf/ and sweeps/: everything composes, wrong requests are named before anything is computed, hashes see what matters."""

import pickle
import sys

import pytest
from conftest import ROOT, program

from cosmos_exp.config import composing
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.paths import group_choices, sweeps_dir
from cosmos_exp.config.record import load_config, save_config
from cosmos_exp.errors import DamagedError

# Row k has the k-th choice of every group, so that each is in one row at least.
GROUPS = {group: names for group, names in group_choices().items() if "/" not in group and group != "experiment"}
ROWS = [[f"{group}={names[k % len(names)]}" for group, names in GROUPS.items()] for k in range(5)]
ROWS += [[f"experiment={name}"] for name in group_choices()["experiment"]]


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_every_choice_of_every_group_composes(row):
    """Hydra's own groups (launchers) are composed in tests/test_launchers.py."""
    config = compose_config([*row, "data.path=/somewhere"])
    assert config.data.num_frames == config.model.num_frames


@pytest.mark.parametrize("name", sorted(path.stem for path in sweeps_dir().glob("*.yaml")))
def test_the_runs_of_a_sweep_are_composed_once_and_as_if_each_were_alone(name, monkeypatch):
    words, where = ["adapter=dora", "rank=8", "++margins.tse=0.2", "data.prompt='a, b'"], (name, (str(sweeps_dir()),))
    composer, alone = composing.Composer(*where), compose_config([*words, "seed=3"], *where)
    composer.config([*words, "seed=1"])
    monkeypatch.setattr(composing, "compose_all", None)
    assert composer.config([*words, "seed=3"]) == alone
    assert alone.name == name


def test_an_experiment_wins_over_the_groups_and_the_command_line_over_it():
    assert compose_config(["experiment=demo"]).training.max_steps == 200
    assert compose_config(["experiment=demo", "training.max_steps=5"]).training.max_steps == 5
    words = ("adapter=dora", "rank=8", "hardware=1xh100")
    paper, tuned = (compose_config([f"experiment={name}", *words]) for name in ("paper", "paper_tuned"))
    assert [c.adapter.init for c in (paper, tuned)] == ["kaiming", "gaussian"]
    assert [c.judge.source for c in (paper, tuned)] == [f"nvidia/Cosmos-Reason2-{size}" for size in ("2B", "8B")]
    assert (paper.sampson.matcher, paper.data.resize) == ("superpoint_lightglue", "reference")
    assert (paper.training.global_batch_size, paper.training.epochs, len(paper.generation.seeds)) == (8, 100, 5)


@pytest.mark.parametrize(
    ("words", "rank", "alpha"),
    [
        ("adapter=dora", 32, 32),
        ("adapter=dora rank=8", 8, 8),
        ("rank=8 alpha=16", 8, 16),
        ("adapter.rank=5 alpha=rank", 5, 5),
        ("adapter=tiny", 4, 4),
        ("adapter=tiny alpha=8", 4, 8),
        ("adapter=tiny rank=16", 16, 16),
        ("adapter=tiny adapter.rank=16", 16, 16),
    ],
)
def test_alpha_follows_the_rank_unless_it_is_set(words, rank, alpha, tmp_path):
    """tiny is a choice of the user's own folder, which sets its rank itself."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "tiny.yaml").write_text("defaults: [lora, _self_]\nrank: 4\n")
    adapter = compose_config(words.split(), "config", (str(tmp_path),)).adapter
    assert (adapter.rank, adapter.alpha) == (rank, alpha)


WRONG = [
    # a typo
    ("adapter.rnk=8", "adapter.rnk: no such key; did you mean adapter.rank?"),
    ("+training.max_step=3", "training.max_step: no such key; did you mean training.max_steps?"),
    (
        "adapter=loar",
        "adapter=loar: no such choice; did you mean lora? choose one of dora, full, lokr, lora, none, oft, pissa",
    ),
    ("rank=12", "rank=12: no such choice; choose one of 16, 32, 8, or set adapter.rank=12"),
    ("judge.name=rule", "judge.name=rule: no such choice; did you mean rules?"),
    ("hydra/launcher=slurn_cpu", "Could not find 'hydra/launcher/slurn_cpu' Available options"),
    # a wrong type
    ("adapter.rank=many", "adapter.rank=many: Input should be a valid integer"),
    ("seed=${nothing}", "seed: Interpolation key 'nothing' not found"),
    # out of range
    ("adapter.rank=0", "adapter.rank=0: Input should be greater than 0"),
    ("data.height=100", "data.height=100: Input should be a multiple of 16"),
    ("data.num_frames=16", "data.num_frames=16: must be 4k+1 (17, 93 …), e.g. 17"),
    ("generation.seeds=[1,1]", "generation.seeds=[1, 1]: a seed appears twice"),
    ("training.condition_frames={1:0.9}", "training.condition_frames={1: 0.9, 2: 0.0}: probabilities"),
    ("name=../up", "name=../up: is the name of a folder in outputs/"),
    # what the model allows
    ("adapter.target_modules=[to_x]", "adapter.target_modules: 'to_x' matches no linear layer"),
    ("adapter.rank=300", "adapter.rank=300: transformer_blocks.0.attn1.to_q has 256 inputs and 256 outputs"),
    ("adapter.alpha=1e30", "adapter.alpha=1e+30: gives transformer_blocks.0.attn1.to_q the scale"),
    ("data.num_frames=100001", "Lower data.num_frames, data.height or data.width"),
    # keys that contradict each other
    ("adapter.bias=true", "adapter.bias=true: peft supports it with adapter=lora and adapter.init=kaiming only"),
    ("hardware.checkpointing=auto", "hardware.memory_gb: not set"),
    ("training.schedule.warmup_samples=9000", "training.schedule.total_samples=2400: must be greater than"),
    ("training.schedule.warmup_samples=8 training.max_steps=1", "warmup_samples=8: none of the 1 optimizer steps"),
    ("hardware.attention=cudnn", "hardware.attention=cudnn: its backward pass is not deterministic"),
    ("judge=server judge.url=null", "judge.url: not set"),
    ("judge=reason2_2b judge.source=/nowhere/reason2", "judge.source=/nowhere/reason2"),
    ("judge=rules judge.rubrics=[nothing.yaml]", "'nothing.yaml' is neither physics nor instruction"),
    ("data.cameras=[a,b]", "data.cameras: data.reader=folder has one camera per video"),
    ("data=lerobot data.path=x data.cameras=[a,b,c] data.tiling=1x2", "data.tiling=1x2: 2 tiles for 3 cameras"),
    ("adapter=none adapter.truncate_from=x", "adapter.truncate_from: adapter=none has no adapter"),
    ("adapter=full rank=8", "adapter.rank=8: is of lora and dora, not of full"),
    ("adapter=lokr adapter.method=poly dry_run=true", "adapter.options: poly of peft"),
    ("data.kept_pairs=1", "generation.seeds=[0]: kept (data.kept_prompts, data.kept_pairs) needs two"),
    ("data.first_pair=4999", "data.first_pair=4999: test scenes end before 5000. Lower it."),
    ("adapter.rank_pattern={to_z:4}", "adapter.rank_pattern: to_z matches no adapted layer; the nearest are: "),
    ("adapter.rank_pattern={to_q:4,attn1.to_q:8}", "adapter.rank_pattern: attn1.to_q and to_q both match"),
    ("sampson.layout=1x7", "sampson.layout=1x7: does not divide frames of 96x160 pixels"),
    ("tracking.mode=online", "tracking.mode=online: no wandb login"),
    ("data.validation_videos=1000 dry_run=true", "nothing is left to train on"),
    # a missing path, a key without a value, several values, a flag
    ("data=lerobot", "data.path: not set. Give the folder of your data: data.path=DIR"),
    ("data=folder data.path=/nowhere/at/all", "data.path=/nowhere/at/all: no such folder"),
    ("training.epochs", "training.epochs: cannot be parsed. Write KEY=VALUE"),
    ("rank=8,16", "rank=8,16: several values. Add -m to run one after another"),
    ("tracking.project=a,b", "or quote a text that holds a comma: \"tracking.project='a,b'\""),
    ("~adapter", "~adapter: a run needs every group and key"),
    ("--dry-run", "--dry-run: no such option or argument. `cosmos-exp run --help` lists them."),
    ("-m rank=8,nope", "rank=nope: no such choice"),
    ("-m --cfg job", "do not go with -m"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_a_wrong_request_is_one_line_that_begins_with_the_key(words, said, answered, tmp_path, no_login):
    text = answered(["run", *words.split(), f"run_dir={tmp_path / 'run'}"], 2, said)
    assert len(text.splitlines()) <= 2
    assert not (tmp_path / "run").exists()


def test_every_wrong_key_is_named_at_once(answered):
    text = answered(["run", "seed=-1", "data.fps=0", "training.validation.sigmas=[2]"], 2)
    keys = [line.removeprefix("cosmos-exp: ").split("=")[0] for line in text.splitlines()]
    assert keys == ["seed", "data.fps", "training.validation.sigmas.0"]


def test_what_a_sweep_lacks_is_said_once_before_its_first_run(answered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = "sampson.layout=1x7: does not divide frames of 96x160 pixels"
    words = ["sweep", "rank", "data=folder", "data.path=nowhere", "rank=8,16", "sampson.layout=1x7"]
    answered(words, 2, f"cosmos-exp: {layout}", "nowhere: no such folder", absent=("lora-r8",))
    answered(["sweep", "rank", "rank=8", "sampson.layout=1x7,null"], 2, f"lora-r8-layout1x7: {layout}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "prompt",
    ["Pick up the cup, then put it down.", "it's #1", 'say "hello"', "拿起杯子，放下", "a: {b} [c] (d) = e\\f"],
)
def test_a_prompt_of_any_characters_works_without_more_quotes(prompt):
    assert compose_config([f"data.prompt={prompt}"]).data.prompt == prompt


def test_errors_and_help_import_nothing_heavy():
    code = (
        "import sys; from cosmos_exp.cli.entry import main, parser; parser()\n"
        "assert not {'torch', 'hydra', 'numpy'} & set(sys.modules), 'help'\n"
        "assert main(['run', 'adapter.target_modules=[to_x]']) == 2\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), 'errors'"
    )
    done = program(sys.executable, "-c", code, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_saved_config_comes_back_and_does_not_change(tmp_path):
    config = compose_config(["adapter=dora", "rank=8", "alpha=16", "data.fps=8"])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    assert config.updated({"adapter.rank": 4}).adapter.rank == 4
    assert config.adapter.rank == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-3], "not a whole configuration"),
        (lambda text: text[: text.index("judge:")], "'judge', 'margins', 'tracking'"),
        (lambda text: text.replace("rank: 32", "rnk: 32"), "adapter.rnk: no such key"),
        (lambda text: "[", "not valid YAML"),
    ],
)
def test_a_record_that_is_cut_short_or_of_another_version_is_named(change, said, tmp_path):
    file = tmp_path / "config.yaml"
    save_config(compose_config([]), file)
    file.write_text(change(file.read_text()))
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


def test_options_go_anywhere_between_overrides(answered):
    words = ["run", "rank=8", "-m", "alpha=8,16", "--config-name", "config", "dry_run=true", "tracking=none"]
    assert answered(words, 0).count("lora, rank 8, alpha") == 2
