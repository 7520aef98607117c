"""Detailed tables that other tools made."""
