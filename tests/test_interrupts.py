"""A request to stop is never lost."""

import signal
import time
import weakref

import pytest

from cosmos_exp.experiment import record
from cosmos_exp.experiment.record import interruptible, recorded_run
from cosmos_exp.run_folder import RunFolder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_callback_whose_exceptions_python_ignores(number):
    """Found by `make soak`: Ctrl-C met the callback of a weak reference, and the run went on."""
    things = [set()]
    reference = weakref.ref(things[0], lambda _: signal.raise_signal(number))

    def lose_it():
        with interruptible():
            things.clear()
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        lose_it()
    assert reference() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_a_library_turns_into_an_error_of_its_own(number, small_config, tmp_path):
    """safetensors raises a ValueError if a signal meets it, and diffusers then says that the file cannot be read."""

    def load():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise OSError("Unable to load weights from checkpoint file") from None

    with pytest.raises(KeyboardInterrupt), recorded_run(small_config(f"run_dir={tmp_path}")):
        load()
    assert RunFolder(tmp_path).status["state"] == "interrupted"


def test_a_run_that_is_stopped_before_its_first_record_is_resumed(small_config, tmp_path, monkeypatch):
    """Found by `make soak`: the time of the end was then the only key of manifest.json, and the resume refused the file."""
    config = small_config(f"run_dir={tmp_path}")
    with monkeypatch.context() as patch:
        patch.setattr(record, "save_config", lambda *_: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt), recorded_run(config):
            pass
    assert RunFolder(tmp_path).status["state"] == "interrupted"
    assert not RunFolder(tmp_path).manifest
    with recorded_run(config):
        pass
    assert RunFolder(tmp_path).status["state"] == "done"
