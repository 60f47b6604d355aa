"""Synthetic trajectories: videos of finished runs, scored, filtered or ranked, as a LeRobot v3.0 data set."""
