"""Declares the options of a model: a row of the comparison, or several that differ in settings or stored form."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from evaluation.config.declared import Declared, FaultBelow, check_label
from evaluation.config.endpoint_keys import key_fault
from evaluation.config.grid import Grid, Pooling, combined_label
from evaluation.config.stored_forms import FORM_IN_LABEL, DeclaredForm, StoredForm

Backend = Literal["transformers", "sentence-transformers", "openai"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class EndpointConfig(Declared):
    """A server with OpenAI's embeddings interface."""

    url: str = Field(pattern=r"^https?://", description="Address up to /v1, such as http://127.0.0.1:8000/v1.")
    key_variable: str | None = Field(None, description="Environment variable with the key, which is never stored.")
    prefix: Literal["text", "input_type"] = Field(
        "text", description="Put the protocol's prefix before texts, or send its name to a server that adds it itself."
    )
    batch: int = Field(64, ge=1, description="Texts per request.")
    concurrency: int = Field(4, ge=1, description="Requests sent at the same time.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds for one request and its whole answer.")
    patience_s: float = Field(
        600.0, ge=0, description="Seconds for which a request is tried again while the server is busy or away."
    )
    max_characters: int | None = Field(
        None, ge=8, description="Characters kept per text, prefix excluded; null: the server cuts, or refuses."
    )
    empty_text: str | None = Field(
        None, min_length=1, description="Sent in place of empty texts, and counted; null: they are sent as they are."
    )
    allow_key_to: str | None = Field(None, description="Host that may receive a key of another service.")

    @model_validator(mode="after")
    def _key_at_home(self) -> EndpointConfig:
        fault = self.key_variable and key_fault(self.key_variable, self.url, self.allow_key_to)
        if fault:
            raise ValueError(fault)
        return self


class ModelConfig(Declared):
    """One row of the comparison: a model under one protocol."""

    label: str = Field(description="Unique name of this row in all tables, and of its folder.")
    model: str = Field(
        description="Hub name, folder (relative to the config), builtin:<name>, bm25, or in-memory (given in Python)."
    )
    revision: str | None = Field(None, description="Hub commit or tag; null: the newest, resolved and recorded.")
    protocol: str | None = Field(
        None, description="A named protocol, or a name under protocols:; null: what the model's name and files imply."
    )
    backend: Backend = Field("transformers", description="What runs the model.")
    max_length: int | None = Field(None, ge=8, description="Tokens kept per text; null: as the checkpoint declares.")
    pooling: Pooling | None = Field(
        None, description="How token vectors become one vector; null: as the checkpoint declares."
    )
    truncate_dim: int | None = Field(
        None, ge=1, description="Dimensions kept of a vector; null: as the checkpoint declares, usually all."
    )
    dtype: Dtype = Field(
        "auto",
        description="Precision of the forward pass; auto: float32, on CUDA bfloat16 if the checkpoint declares it, "
        "else float16.",
    )
    trust_remote_code: bool = Field(False, description="Run Python code from the model's repository.")
    endpoint: EndpointConfig | None = Field(None, description="Server of backend openai.")
    grid: Grid | None = Field(None, description="Make a row for every combination of these settings; null: one row.")
    folders: str | None = Field(
        None,
        description="In place of model: a pattern of checkpoint folders, such as checkpoints/step-*. It makes a row "
        "per folder, sorted by the last number in its name, and the rows make a series; label begins their labels.",
    )
    series: str | None = Field(
        None, min_length=1, description="Training run that this row is a checkpoint of; folders: sets it."
    )
    step: float | None = Field(None, ge=0, description="Number of the checkpoint in its series; folders: sets it.")
    stored: tuple[DeclaredForm, ...] | None = Field(
        None, min_length=1, description="Also score these smaller forms of the vectors, a row each; null: none."
    )

    @model_validator(mode="after")
    def _step_with_series(self) -> ModelConfig:
        if (self.series is None) != (self.step is None):
            raise ValueError("series and step belong together; give both or neither")
        return self

    @model_validator(mode="after")
    def _stored_fits(self) -> ModelConfig:
        names: list[str] = []
        for position, form in enumerate(self.stored or ()):
            if form.name in names:
                raise FaultBelow(("stored", position), f"the form {form.name} is given twice; remove one")
            misfit = None if self.truncate_dim is None else form.misfit(self.truncate_dim)
            if misfit is not None:
                raise FaultBelow(("stored", position), f"truncate_dim: {self.truncate_dim} is set, and {misfit}")
            names.append(form.name)
        return self

    @model_validator(mode="after")
    def _label_without_form(self) -> ModelConfig:
        if self.form is None and FORM_IN_LABEL.search(self.label):
            raise FaultBelow(
                ("label",),
                "rows of stored forms are named LABEL@FORM, so a label can't hold @ and a form's name; choose another, "
                f"such as {self.label.replace('@', '-')}",
            )
        return self

    @model_validator(mode="after")
    def _grid_alone(self) -> ModelConfig:
        keys = [] if self.grid is None else self.grid.keys
        twice = next((key for key in keys if getattr(self, key) is not None), None)
        if twice is not None:
            raise ValueError(f"{twice} is set both in grid: and beside it; remove one of them")
        return self

    @model_validator(mode="after")
    def _bm25_has_no_vectors(self) -> ModelConfig:
        own = ("label", "model")
        given = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        without_meaning = [name for name in given if name not in own] if self.model == "bm25" else []
        if without_meaning:
            raise ValueError(
                f"bm25 ranks by words, so {', '.join(without_meaning)} can't be set; remove that "
                "(a folder of this name is written ./bm25)"
            )
        return self

    @model_validator(mode="after")
    def _endpoint_with_backend(self) -> ModelConfig:
        if (self.backend == "openai") != (self.endpoint is not None):
            raise ValueError("backend openai and endpoint: {url: ...} belong together; give both or neither")
        return self

    @model_validator(mode="after")
    def _left_to_the_server(self) -> ModelConfig:
        fixed = [name for name in ("max_length", "pooling", "truncate_dim") if getattr(self, name) is not None]
        fixed += ["dtype"] * (self.dtype != "auto") + ["grid"] * (self.grid is not None)
        if self.endpoint is not None and fixed:
            raise ValueError(
                f"the server of backend openai decides {', '.join(fixed)}; remove that here and set it on the server "
                "(to cut texts before they are sent, set endpoint.max_characters)"
            )
        return self

    _label = field_validator("label")(check_label)

    @field_validator("model")
    @classmethod
    def _bm25_in_any_case(cls, value: str) -> str:
        return "bm25" if value.lower() == "bm25" else value

    @property
    def form(self) -> StoredForm | None:
        """The stored form that this row scores; None for the row of the model's own vectors."""
        only = self.stored[0] if self.stored is not None and len(self.stored) == 1 else None
        return only if only is not None and self.label.endswith(f"@{only.name}") else None

    @property
    def base_label(self) -> str:
        """The label of the row with the model's own vectors."""
        return self.label if self.form is None else self.label.removesuffix(f"@{self.form.name}")

    def rows(self) -> list[ModelConfig]:
        """Returns the row of the model's own vectors and one per smaller form (e5-small@int8); grid repeats both."""
        if self.grid is not None:
            rows = []
            for values in self.grid.combinations():
                label = check_label(combined_label(self.label, values))
                series = None if self.series is None else combined_label(self.series, values)  # one row per step
                rows.append(self.model_copy(update={"label": label, "series": series, "grid": None, **values}))
            return [stored for row in rows for stored in row.rows()]
        if self.stored is None or self.form is not None:
            return [self]
        rows = [self.model_copy(update={"stored": None})]
        for form in self.stored:
            if not form.is_plain:
                rows.append(self.in_form(form))
        return rows

    def in_form(self, form: StoredForm) -> ModelConfig:
        """Returns the row of a stored form of this row's model."""
        label = check_label(f"{self.base_label}@{form.name}")
        return self.model_copy(update={"label": label, "stored": (form,), "series": None, "step": None})
