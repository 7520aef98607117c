"""Checks that a machine is fit for a matrix."""
