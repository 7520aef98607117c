"""Datasets, models and the order of samples."""
