"""Many runs: names, folders, the runs of a sweep, live view, comparison of a rerun."""
