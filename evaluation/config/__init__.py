"""Declares every option of a config, and loads a YAML file as a checked, frozen config."""
