"""Sampson error: is a video geometrically consistent, over time and across views?

There are two definitions. The cookbook's compares with published numbers: F by plain RANSAC, the error over all matches,
outliers included, median over matches, median over frames (`tse`, `cse`). Ours is the error of the moving matches under
an F that MAGSAC++ fits to them (`tse_moving`, `cse_moving`). Read it together with the share of static matches, the share
of inliers and the number of matches: a static, blurred or torn video can have a low error."""
