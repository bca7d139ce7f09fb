"""Files, machine, secrets and retries. Knows nothing of models, tasks or runs."""
