"""A YAML file becomes a checked, frozen config; every option is declared here."""
