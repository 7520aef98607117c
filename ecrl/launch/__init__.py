"""Turns runs into processes."""
