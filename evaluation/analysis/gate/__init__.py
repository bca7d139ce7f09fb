"""A run against a baseline: did a model get worse?"""
