"""Kinds of experiment: one folder a kind."""
