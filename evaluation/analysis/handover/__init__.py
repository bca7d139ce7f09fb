"""Runs in the formats of model cards and TREC."""
