"""Dashboards: mirrors of the run folder."""
