"""`make soak`: random kills of tiny runs, fuzzing with fresh seeds and bad inputs at random, until the time is up.

    PYTHONPATH=tests python -m soak --minutes 60         # the three parts, each a process
    PYTHONPATH=tests python -m soak --only kills --seed 7 --cases 1      # one case again

Not part of the test suite. The table is written every minute, so that an interrupted soak leaves what it has found.
"""
