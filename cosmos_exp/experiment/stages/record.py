"""Stage 5: send the results to the dashboard."""

from __future__ import annotations

from cosmos_exp.config.context import RunContext
from cosmos_exp.experiment.stages.common import recorded_stage
from cosmos_exp.tracking.wandb import Tracker


def record(context: RunContext, tracker: Tracker) -> None:
    """Send summary, scores, videos and the adapter."""
    with recorded_stage("record", context):
        tracker.finish()
