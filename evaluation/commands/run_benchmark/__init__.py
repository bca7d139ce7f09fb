"""The command run-benchmark."""
