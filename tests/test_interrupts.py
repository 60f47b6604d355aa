"""A request to stop is never lost."""

import signal
import time
import weakref

import pytest

from cosmos_exp.experiment.record import interruptible


class Thing:
    """Has weak references."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_callback_whose_exceptions_python_ignores(number):
    """Found by `make soak`: Ctrl-C met the callback of a weak reference, and the run went on."""
    things = [Thing()]
    reference = weakref.ref(things[0], lambda _: signal.raise_signal(number))

    def lose_it():
        with interruptible():
            things.clear()
            time.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        lose_it()
    assert reference() is None
