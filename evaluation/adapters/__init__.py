"""Our encoder and search behind the interfaces of mteb and beir."""
