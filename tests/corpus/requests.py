"""Requests that would fail after hours, or train nonsense: refused before anything is computed, by key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from corpus.cases import Case


def override(*words: str) -> Callable[[Path], list[str]]:
    """`run` with these words and a run folder that must not be made."""
    return lambda at: ["run", *words, f"run_dir={at / 'run'}"]


def numbers(name: str, *pairs: tuple[str, str]) -> Case:
    """Several keys with numbers that they cannot have: (override, what is said of it). All are named at once."""
    words = [word for word, _ in pairs]
    said = [text for _, text in pairs]
    return Case(name, override(*words), 2, tuple(said))


def said(word: str, *words: str) -> Case:
    """`run` with words that Hydra would answer in its own terms."""
    return Case(word, override(*word.split()), 2, words, ("hydra.cc", "++", "ListConfig", "usage:", "__main__"))


def typed(word: str, *words: str) -> Case:
    """`run` with a value that OmegaConf would refuse in several lines of its own."""
    return Case(word, override(word), 2, words, ("full_key", "object_type", "reference_type", "Optional"))


WORDS = (
    said("+seed=1", "+seed: this key exists", "Leave out the +: seed=VALUE"),
    said("+experiment=demo", "experiment: this group has a choice already", "experiment=CHOICE"),
    said("approximate=[fp8]", "approximate: is a group of keys and takes no list", "approximate.fp8_base=VALUE"),
    said("generation.seeds={a:1}", "generation.seeds: "),
    said("--dry-run", "--dry-run: no such flag", "dry_run=true"),
    said("--seed=3", "--seed=3: no such flag", "seed=3"),
    said("--nothing", "--nothing: no such flag", "run --help"),
    said("foo", "foo: expected KEY=VALUE or GROUP=CHOICE"),
    said("seed=1 seed=2", "seed=1 seed=2: two values for one run", "-m seed=1,2"),
    said("rank=8 rank=16", "two values for one run"),
    said("seed=[1", "cannot parse", "expected KEY=VALUE"),
    said("name=", "name=: is no name", "name=my_run"),
    typed("training.epochs=null", "training.epochs=null: this key needs a value"),
    typed("training.schedule=null", "training.schedule=null: this key needs a value"),
    typed("seed=???", "seed=???: this key needs a value"),
    typed("generation.seeds=[null]", "generation.seeds[0]=null: must be int"),
    typed("adapter.target_modules=5", "adapter.target_modules: expected a list", "not one value (int)"),
    typed("data.swaps=[a]", "data.swaps[0]: expected a list", "not one value (str)"),
    typed("adapter.rank_pattern=4", "adapter.rank_pattern: expected keys with values"),
    typed("training.condition_frames={a:1}", "training.condition_frames.a: a must be a whole number"),
    typed("seed=${nothing}", "seed=${nothing}: nothing is no key"),
    typed("seed=${training}", "seed=${training}: that value has another type than seed"),
    typed("seed=${seed}", "seed: refers to itself"),
    typed("adapter.bias=maybe", "adapter.bias: Value 'maybe' must be true or false"),
    typed("hardware=null", "hardware=null: a group takes the name of one of its choices"),
)


def study(name: str, text: str, *words: str, more: tuple[str, ...] = ()) -> Case:
    """`sweep` with a study of one's own."""

    def make(at: Path) -> list[str]:
        (at / "mine.yaml").write_text(text)
        return ["sweep", str(at / "mine.yaml"), "--list", *more]

    return Case(name, make, 2, words, ("full_key", "hydra.help", "object_type"))


BEGIN = "defaults: [config, _self_]\nname: mine\n"
ARMS = "sweep: {arms: {one: {adapter: lora, rank: 8}, two: {rank: 8, adapter: lora}}}\n"
STUDIES = (
    study(
        "no defaults", ARMS, "mine.yaml: does not begin with", "Add this line at the top: defaults: [config, _self_]"
    ),
    study("only itself", f"defaults: [_self_]\n{ARMS}", "defaults: [config, _self_]", more=("seed=1",)),
    study("rank", f"{BEGIN}rank: 8\n", "rank: is a group", "adapter: {rank: NUMBER}", "An arm may set `rank: CHOICE`"),
    study("dots", f"{BEGIN}adapter.rank: 8\n", "adapter.rank: a study nests its keys: `adapter: {rank: VALUE}`"),
    study("a group's choice", f"{BEGIN}adapter: lora\n", "adapter: is a group of keys", "override /adapter: CHOICE"),
    study("a number", BEGIN.replace("_self_", "{override /rank: 8}, _self_"), 'Quote it: `override /rank: "8"`'),
    study("two equal arms", BEGIN + ARMS, "sweep.arms: one and two have the same configuration"),
    study("a run folder", BEGIN + ARMS, "run_dir=", "name=NAME names the sweep's folder", more=("run_dir=x",)),
    study("a run folder of a product", BEGIN, "run_dir=", "name=NAME names the sweep's folder", more=("run_dir=x",)),
    Case("a command", lambda at: ["swep", "rank"], 2, ("swep: no such command; did you mean `cosmos-exp sweep`?",)),
    Case("a key as command", lambda at: ["seed=1"], 2, ("seed=1: no such command", "`cosmos-exp run seed=1`")),
)
FINITE = "must be a finite number"
NUMBERS = (
    numbers(
        "not finite",
        ("training.learning_rate=nan", f"training.learning_rate=nan: {FINITE}"),
        ("adapter.alpha=inf", f"adapter.alpha=inf: {FINITE}"),
        ("model.max_first_loss=nan", f"model.max_first_loss=nan: {FINITE}"),
        ("margins.tse=inf", f"margins.tse=inf: {FINITE}"),
        ("generation.fps=nan", f"generation.fps=nan: {FINITE}"),
        ("training.validation.sigmas=[0.5,nan]", f"training.validation.sigmas[1]=nan: {FINITE}"),
        ("training.condition_frames={1:nan,2:1}", f"training.condition_frames.1=nan: {FINITE}"),
        ("adapter.alpha_pattern={to_q:-inf}", f"adapter.alpha_pattern.to_q=-inf: {FINITE}"),
        ("training.condition_timestep=inf", f"training.condition_timestep=inf: {FINITE}"),
    ),
    numbers(
        "seeds",
        ("generation.seeds=[-1,4294967296,5,5]", "generation.seeds[0]=-1: must be at least 0"),
        ("data.split_seed=-1", "generation.seeds[1]=4294967296: must be at most 4294967295"),
        ("seed=1000000000000000000000", "a seed appears twice"),
        ("sweep.seeds=[-1]", "data.split_seed=-1: must be at least 0"),
        ("sweep.tune.seeds=[-1]", "seed=1000000000000000000000: must be at most 9223372036854775807"),
    ),
    numbers(
        "empty and absurd",
        ("training.validation.sigmas=[]", "training.validation.sigmas=[]: give at least one noise level"),
        ("generation.seeds=[]", "generation.seeds=[]: give at least one seed"),
        ("generation.fps=1e-9", "generation.fps=1e-09: must be at least 0.01"),
        ("judge=rules", "judge.rubrics=[]: the judge has no question"),
        ("judge.rubrics=[]", "judge=none"),
    ),
    numbers("a seed that is no integer", ("seed=1e21", "could not be converted to Integer")),
    numbers(
        "rank beyond the width",
        ("adapter.rank=100000", "adapter.rank=100000: transformer_blocks.0.attn1.to_q has 256 inputs and 256 outputs"),
        ("adapter.alpha=1", "at most rank 256. Lower adapter.rank."),
    ),
    numbers("a layer's rank", ("adapter.rank_pattern={to_q:300}", "adapter.rank_pattern=300: transformer_blocks.0.")),
    numbers(
        "entries of another type",
        ("data.cameras=[{a:1}]", "data.cameras=[{'a': 1}]: an entry has another type. It must be a list[str]."),
        ("adapter.target_modules=[[to_q]]", "adapter.target_modules=[['to_q']]: an entry has another type"),
    ),
    numbers(
        "a width beyond a computer's numbers",
        ("model.width=2147483648", "model.width=2147483648: must be at most 16384"),
    ),
    numbers(
        "sizes beyond a computer's numbers",
        (
            "model.transformer.adaln_lora_dim=1000000000000000000000",
            "adaln_lora_dim=1000000000000000000000: must be at most",
        ),
        ("model.text_channels=1000000000", "model.text_channels=1000000000: must be at most"),
    ),
    numbers("scale", ("adapter.alpha=1e30", "the scale 3.13e+28; it must be at most 10000")),
)


def rubric(text: str, *words: str) -> Callable[[Path], list[str]]:
    """`run` with a rubric of one's own."""

    def make(at: Path) -> list[str]:
        (at / "mine.yaml").write_text(text)
        return ["run", f"judge.rubrics=[{at / 'mine.yaml'},physics]", *words, f"run_dir={at / 'run'}"]

    return make


def model_folder(text: str) -> Callable[[Path], list[str]]:
    """`run` of a model folder with this text in transformer/config.json."""

    def make(at: Path) -> list[str]:
        (at / "model" / "transformer").mkdir(parents=True)
        (at / "model" / "transformer" / "config.json").write_text(text)
        return ["run", "model=cosmos_predict25_2b", f"model.source={at / 'model'}", f"run_dir={at / 'run'}"]

    return make


ASKED = "system_prompt: Judge.\nuser_prompt: How good?\n"
# What the configuration says about the time after training, found before it. One request for many: all are listed.
LATER = (
    Case(
        "sizes in a model folder",
        model_folder('{"num_layers": 100000000000000000000, "mlp_ratio": 4}'),
        2,
        ("transformer/config.json: num_layers=100000000000000000000: must be at most 1024",),
    ),
    Case(
        "no sizes in a model folder",
        model_folder('{"num_layers": "many", "attention_head_dim": 2.5}'),
        2,
        ("transformer/config.json: num_layers, attention_head_dim: not a whole number",),
    ),
    Case(
        "several",
        override(
            "judge=rules",
            "judge.rubrics=[nothing.yaml]",
            "tracking.mode=online",
            "sampson.layout=1x7",
            "data.num_frames=100001",
            "cache_dir=/dev/null/cache",
        ),
        2,
        (
            "'nothing.yaml' is neither physics nor instruction nor the path of a YAML file",
            "tracking.mode=online: no wandb login",
            "sampson.layout=1x7: does not divide frames of 96x160 pixels",
            "data.num_frames=100001: needs 25,001 positions of the transformer",
            "memory: training needs at least",
            "1,500,060 tokens per sample",
            "hardware.checkpointing=full",
            "cache_dir: /dev/null/cache: /dev/null is a file",
        ),
    ),
    Case(
        "nothing left to train on",
        override("data.validation_videos=1000", "dry_run=true"),
        2,
        ("nothing is left to train on", "lower data.validation_videos"),
    ),
    Case(
        "generate without pairs",
        lambda at: ["generate", "--adapter", "base", "--prompts", str(at), "--out", str(at / "run")],
        2,
        ("has no test pairs", "--prompts", "NAME.txt (the prompt)"),
    ),
    Case(
        "a pair without views",
        override("sampson.layout=1x2", "sampson.pairs=left:right", "judge=rules", "judge.rubrics=[physics,physics]"),
        2,
        ("sampson.pairs: 'left:right' is not A:B with two of the views view1, view2", "two rubrics measure physics"),
    ),
    Case(
        "a rubric that the rules do not know",
        rubric(ASKED, "judge=rules", "sampson.estimator=five_point"),
        2,
        ("judge=rules has the rubrics physics and instruction, not 'mine'", "set sampson.calibration"),
    ),
    Case(
        "a rubric without a name",
        rubric(ASKED + "measure: 5\n", "judge=server", "judge.url=http://127.0.0.1:9/v1", "data.swaps=[[left]]"),
        2,
        ("data.swaps: ['left'] is no pair of two different words",),
    ),
    Case(
        "the name of a rubric",
        rubric(ASKED + "measure: 5\n", "judge=server", "judge.url=http://127.0.0.1:9/v1"),
        2,
        ("mine.yaml: measure=5",),
    ),
)
LACKING = ("sweep", "rank", "data=folder", "data.path=nowhere", "rank=8,16")
LAYOUT = "sampson.layout=1x7: does not divide frames of 96x160 pixels"
# What `run` says of one run, said once of all. A job of a cluster may find what the submitting machine lacks.
SWEEPS = (
    Case(
        "a sweep on this machine",
        lambda at: [*LACKING, "sampson.layout=1x7"],
        2,
        ("cosmos-exp: sampson.layout=1x7", LAYOUT, "data.path=", "nowhere: no such folder"),
        ("lora-r8",),
    ),
    Case(
        "some runs of a sweep",
        lambda at: ["sweep", "rank", "rank=8", "sampson.layout=1x7,null"],
        2,
        (f"cosmos-exp: lora-r8-layout1x7: {LAYOUT}",),
    ),
    Case(
        "the plan of a sweep",
        lambda at: ["sweep", "rank", "rank=8,16", "sampson.layout=1x7", "dry_run=true"],
        1,
        ("dry run: 2 runs would start now", f"cosmos-exp: dry run: missing here:\n{LAYOUT}"),
    ),
    Case(
        "a sweep of Slurm jobs",
        lambda at: [*LACKING, "sampson.layout=1x7", "hydra/launcher=slurm_cpu"],
        2,
        (LAYOUT,),
        ("no such folder", "sbatch"),
    ),
)
