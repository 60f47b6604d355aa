"""A sweeper that searches gets the objective of each run: its direction follows the measure, and a failure is never a number."""

import pytest

from cosmos_exp.config.composing import compose_config
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment import launching
from cosmos_exp.experiment.objective import check_objective, objective_value
from cosmos_exp.files import write_json
from cosmos_exp.run_folder import RunFolder

RATE = "training.learning_rate=tag(log, interval(0.001, 0.01))"
OPTUNA = [
    "run",
    "-m",
    "hydra/sweeper=optuna",
    "hydra.sweeper.n_jobs=1",
    "hydra.sweeper.sampler.seed=1",
    "name=tune",
    RATE,
]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective=static_share"], "nothing to optimise"),
        (["objective=instruction"], "judge=rules"),
        (["data.validation_videos=0"], "Set data.validation_videos"),
    ],
)
def test_an_objective_that_no_run_can_have_is_refused_before_the_first(words, said):
    config = compose_config(words)
    with pytest.raises(UserError, match=said):
        check_objective(config, config.objective)


def finished(folder, **metrics):
    write_json(folder.path / "status.json", {"state": "done"})
    write_json(folder.metrics, metrics)
    return folder


def test_a_failed_run_or_one_without_a_value_is_an_error_and_never_a_number(tmp_path):
    scored = {"instruction": {"mean": 4, "n": 1}, "tse": {"mean": None, "n": 0, "reason": "the camera is static"}}
    folder = finished(RunFolder(tmp_path / "a"), training={"validation_loss": 0.25}, measures=scored)
    assert objective_value(folder, "validation_loss") == 0.25
    assert objective_value(folder, "instruction") == 4.0
    with pytest.raises(RunError, match=r"no value\. the camera is static"):
        objective_value(folder, "tse")
    folder.set_status("failed", "train", "the loss is not finite\nat step 3")
    with pytest.raises(RunError, match=r"did not finish \(the loss is not finite\)"):
        objective_value(folder, "validation_loss")


@pytest.fixture
def optuna(monkeypatch, tmp_path):
    """Sweeps with runs that take no time: `results[i]` is what the i-th run leaves behind; returns the learning rates."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install 'cosmos-exp[optuna]'")
    monkeypatch.chdir(tmp_path)
    rates = []

    def prepare(*results):
        def run(config):
            folder, result = RunFolder(config.run_dir), results[len(rates)]
            folder.path.mkdir(parents=True)
            rates.append(config.training.learning_rate)
            if isinstance(result, str):
                write_json(folder.path / "status.json", {"state": "failed", "error": result})
            else:
                finished(folder, **result)
            return not isinstance(result, str)

        monkeypatch.setattr(launching, "run_isolated", run)
        return rates

    return prepare


def test_multirun_makes_a_folder_a_run(optuna, cli, tmp_path):
    optuna({"training": {}}, {"training": {}})
    assert cli("run", "-m", "rank=8,16", "name=ranks", "hydra/sweeper=basic") == 0
    folders = [path.name for path in (tmp_path / "outputs" / "sweeps" / "ranks").iterdir() if path.is_dir()]
    assert sorted(folders) == ["lora-r16", "lora-r8"]
    assert [path.name for path in tmp_path.iterdir()] == ["outputs"]


def test_optuna_minimises_the_validation_loss_in_two_trials(optuna, answered):
    rates = optuna({"training": {"validation_loss": 0.3}}, {"training": {"validation_loss": 0.2}})
    said = answered([*OPTUNA, "hydra.sweeper.n_trials=2"], 0, absent=())  # its log is in colours
    assert 0.001 <= rates[0] != rates[1] <= 0.01
    assert f"training.learning_rate: {rates[1]}\nbest_value: 0.2" in said


def test_optuna_maximises_the_instruction_score_and_survives_a_failed_run(optuna, cli, capfd):
    score = [{"measures": {"instruction": {"mean": m, "n": 1}}} for m in (4.5, 3.0)]
    rates = optuna(score[0], "the loss is not finite", score[1])
    words = ["objective=instruction", "judge=rules", "hydra.sweeper.n_trials=3"]
    failed = "did not finish (the loss is not finite). The sweeper counts it as failed."
    assert cli(*OPTUNA, *words) == 1  # optuna logs the failure with its traceback
    said = "".join(capfd.readouterr())
    assert failed in said
    assert f"training.learning_rate: {rates[0]}\nbest_value: 4.5" in said
