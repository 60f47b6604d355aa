"""Bad inputs: tables of cases, each made by a script and given to the real command line (tests/test_corpus_*.py)."""
