"""The Sampson error of videos, in pixels: how far matched points miss the epipolar geometry of a rigid scene.

`tse` and `cse` are the Cosmos cookbook's numbers exactly, to compare with published ones. `tse_robust` and `cse_robust` compare
videos: the same matches under a refined F, with their own repeatability. `tse_moving` and `cse_moving` are those of the matches
that move. Read them together with the share of static matches.
"""
