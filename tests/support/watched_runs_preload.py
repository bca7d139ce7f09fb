"""Imported once by the fork server, so that its children start with the libraries loaded. Runs no operation."""

import datasets  # noqa: F401
import mteb  # noqa: F401
import sentence_transformers  # noqa: F401

import evaluation.adapters.mteb_job
import evaluation.commands.run_benchmark.command
import evaluation.commands.run_benchmark.run
import evaluation.encoding.tokenizing
import evaluation.execution.runner  # noqa: F401
