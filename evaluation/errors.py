"""Every error that a user can see, with the exit code of the command that raised it. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class EvaluationError(Exception):
    """Base class of every error that this package raises on purpose. Its message is one or more plain sentences."""

    exit_code = 3


class UsageError(EvaluationError):
    """Input that can't be used: wrong arguments, or a config or data that breaks a rule."""

    exit_code = 2


class ConfigError(UsageError):
    """One or more faults in a config, all found before anything is loaded.

    Attributes:
        problems: One sentence per fault, with file and line where they are known.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class DataError(UsageError):
    """Local data that does not follow the documented layout; the message names file and line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class ComparisonError(UsageError):
    """Results that can't be compared, such as two models' scores on different queries; the message names the task."""


class ModelError(EvaluationError):
    """A model that can't be loaded, or that does not behave as its checkpoint declares."""


class EncodingError(EvaluationError):
    """Embeddings that must not become a score: NaN or infinite values, or texts that can't be encoded."""


class EmptyTextError(EncodingError):
    """A server that refuses an empty text, or gives it a vector of zeros."""


class AuditError(EvaluationError):
    """Text that reached the model differs from what the protocol declares."""


class StoreError(EvaluationError):
    """A run folder that can't be read or written."""


class UnwritableError(StoreError):
    """A file or folder that can't be written: a full disk, no permission, a file where a folder should be."""


class DamagedFileError(StoreError):
    """A stored file that differs from what was written; it is never used.

    Attributes:
        file: The damaged file.
    """

    def __init__(self, file: Path, what: str) -> None:
        self.file = file
        super().__init__(f"{file} is damaged: {what}. Start the same run again to recreate it.")


class SchemaVersionError(StoreError):
    """A stored file of another version of this program, which is never read in part.

    Attributes:
        file: The file.
    """

    def __init__(self, file: Path, found: object, wanted: int) -> None:
        self.file = file
        super().__init__(
            f"{file} has schema version {found!r}, and this version of e5-evaluation reads {wanted}: run its config "
            "again with this version, or read it with the version that wrote it."
        )


class FolderInUseError(UsageError):
    """Another process is writing to the run's folder."""


class WorkerError(EvaluationError):
    """A worker of a cluster died repeatedly, or no worker is left.

    Attributes:
        log: The last lines of the worker's log.
    """

    def __init__(self, message: str, log: str = "") -> None:
        self.log = log
        super().__init__(message)


class MissingExtraError(UsageError):
    """An optional package that is not installed; the message names the install command."""


class Interrupted(EvaluationError):
    """The user pressed Ctrl-C; finished jobs are stored."""

    exit_code = 130
