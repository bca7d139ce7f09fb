"""Estimates what a run will cost, and compares that with what it did cost."""
