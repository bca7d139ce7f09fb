"""Where a stored score comes from: model, data, versions, commit, hardware. Data only."""

from __future__ import annotations

from typing import Any, Literal

from evaluation.records.sealed_models import StoredModel

METRIC_DISTRIBUTIONS = ("mteb", "beir", "scikit-learn", "scipy", "pytrec-eval-terrier")
"""Libraries that compute the metrics; another version gives another fingerprint."""
IDENTITY_VERSION = 2
"""Of what a fingerprint covers and a record states; raised when either covers more. Records without one have 1."""


class ModelSettings(StoredModel):
    """How a model was run, with every `auto` resolved."""

    backend: Literal["transformers", "sentence-transformers", "openai"]
    """What ran the model."""
    pooling: str
    """How token vectors became one vector."""
    max_length: int
    """Tokens that the model reads of a text."""
    dtype: Literal["float32", "bfloat16", "float16"]
    """Precision of weights and activations."""
    device: str
    """Where the model ran, such as cpu or cuda:0."""
    max_tokens: int
    """Tokens per batch."""
    trust_remote_code: bool = False
    """Whether code of the checkpoint ran."""
    forward: Literal["ours", "library"] = "ours"
    """Which forward pass ran: this program's, or that of the checkpoint's library."""
    truncate_dim: int | None = None
    """Dimensions kept of a vector; None: all."""
    unit_before_cut: bool = False
    """Whether vectors were brought to length one before they were cut."""
    include_prompt: bool = True
    """Whether the tokens of a prefix were pooled."""
    routed: bool = False
    """Whether queries and documents took different ways through the model."""


class WordSettings(StoredModel):
    """How BM25 ranked."""

    method: str
    """Variant of the formula."""
    k1: float
    """How soon repeated words stop counting."""
    b: float
    """How much long documents are discounted."""
    languages: dict[str, str]
    """Subset -> its stop words and stemmer."""


class ModelProvenance(StoredModel):
    """The checkpoint, or BM25, behind a score."""

    declared: str
    """The model as the config names it."""
    name: str
    """The checkpoint's name, such as intfloat/e5-base or local/my-model."""
    revision: str | None
    """Commit on the Hub, or a hash of the content of other checkpoints."""
    weights_sha256: str
    """Hash of the weights by content, or of the identity of a model in memory with its own encode; empty for BM25."""
    tokenizer_sha256: str
    """Hash of the tokenizer by content; empty for BM25 and a model with its own encode."""
    settings: ModelSettings | None
    """How the model was run; None for BM25 and a model with its own encode."""
    words: WordSettings | None = None
    """How BM25 ranked; None for a model with vectors."""


class DatasetProvenance(StoredModel):
    """The data behind a score."""

    name: str
    """Repository on the Hub, or the folder's name for local data."""
    revision: str | None
    """Commit on the Hub, or local-<hash> for local data."""
    rows_sha256: str | None = None
    """Hash of the rows as they were loaded; None where they were not hashed."""


class Checkout(StoredModel):
    """The program's own checkout."""

    commit: str | None = None
    """Commit; None outside a checkout."""
    dirty: bool | None = None
    """Whether the checkout had uncommitted changes; None outside a checkout."""


class Hardware(StoredModel):
    """The machine that ran a job."""

    system: str
    """Operating system and architecture."""
    cpu: str
    """The processor's name."""
    cores: int | None
    """Logical cores."""
    threads: int
    """Threads that torch used."""
    memory_gib: float | None
    """Main memory in GiB."""
    cuda: tuple[str, ...]
    """Names of the CUDA devices."""

    @property
    def name(self) -> str:
        """The GPU, or the processor with its cores."""
        return self.cuda[0] if self.cuda else f"{self.cpu}, {self.cores or '?'} cores"


class Provenance(StoredModel):
    """Where a score comes from. A job that failed early knows versions and source alone."""

    model: ModelProvenance | None = None
    """The checkpoint."""
    dataset: DatasetProvenance | None = None
    """The data."""
    seed: int | None = None
    """Seed of samplers and splits."""
    options: dict[str, Any] = {}
    """Named attributes that were set on mteb's task class."""
    versions: dict[str, str] = {}
    """Distribution -> installed version, python included."""
    source: Checkout = Checkout()
    """The program's own commit."""
    hardware: Hardware | None = None
    """The machine."""
    identity_version: int | None = None
    """What fingerprint and record identify (`IDENTITY_VERSION`); None in records from before there was one."""


def missing_identity(version: object) -> str | None:
    """Returns what the identity of a record or baseline lacks, as a clause for messages; None if it lacks nothing.

    Args:
        version: Its `identity_version`; None for those from before there was one.
    """
    if version == IDENTITY_VERSION:
        return None
    if isinstance(version, int) and version > IDENTITY_VERSION:
        return f"its identity (version {version}) was made by a newer release; upgrade e5-evaluation to read it"
    return (
        "its identity lacks the checkpoint's files beyond weights and vocabulary (modules, tokenizer settings, shards "
        "in subfolders), trusted remote code and the rows of the dataset"
    )
