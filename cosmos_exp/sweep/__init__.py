"""Many runs: names, planned runs, live view, comparison of a rerun."""
