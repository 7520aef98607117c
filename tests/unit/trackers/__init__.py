"""Tests of `ecrl/trackers`."""
