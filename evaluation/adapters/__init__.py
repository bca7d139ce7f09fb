"""Our encoder and search in the interfaces of mteb and beir."""
