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
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    with pytest.raises(KeyboardInterrupt), interruptible():
        del thing
        time.sleep(20)
    assert reference() is None
