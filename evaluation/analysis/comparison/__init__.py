"""Runs and published tables set side by side."""
