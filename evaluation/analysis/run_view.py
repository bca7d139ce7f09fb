"""The one reader of a run."""
