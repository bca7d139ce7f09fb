"""What the library that a checkpoint was saved for says of it. Plain values only: loads nothing, imports no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Self

Similarity = Literal["cosine", "dot"]
Route = Literal["query", "document"] | None
"""The side of a model with two of them (sentence-transformers' Router); None is its default route."""

UNLIMITED = 1_000_000
"""Maximum length of a model that cuts no text, such as a StaticEmbedding."""
SERVER_POOLING = "server"
"""Stands for the pooling of a served model, which, like truncation, only its server knows."""


class TextRole(NamedTuple):
    """How texts are put to a model: the prefix in front of each, and the side that they are on."""

    prefix: str = ""
    route: Route = None


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """A checkpoint as its own library loads it.

    Attributes:
        library: Which library that is.
        architecture: Class of the transformer, or of the first module where there is none.
        modules: Class names of the modules in order; of a plain transformers folder, none.
        pooling: mean, cls, last; other modes by sentence-transformers' names, joined by +; none without one pooling.
        max_length: Tokens that the library keeps of a text, at most as many as there are positions.
        max_positions: Tokens that the model can take.
        include_prompt: Whether the tokens of a prompt are pooled.
        normalize: Whether the last module normalises; it is detached, because normalising belongs to the protocol.
        truncate_dim: Dimensions kept of a vector; None keeps all.
        prompts, default_prompt_name: As declared, empty prompts left out.
        routed: Whether queries and documents take different ways through the model.
        plain: Whether the modules are a transformer in the root folder, one pooling and perhaps a last normalising.
        embedding_dim: Width of the vectors, truncated ones too.
    """

    library: Literal["sentence-transformers", "transformers"]
    architecture: str
    modules: tuple[str, ...]
    pooling: str
    max_length: int
    max_positions: int
    include_prompt: bool
    normalize: bool
    truncate_dim: int | None
    similarity: Similarity
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    routed: bool
    plain: bool
    embedding_dim: int

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "modules": list(self.modules), "prompts": dict(self.prompts)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `as_dict`."""
        return cls(**{**values, "modules": tuple(values["modules"])})
