"""What a model's name means: the same answer wherever it is asked."""

from __future__ import annotations

from evaluation.models.builtin import BUILTIN_MODELS
from evaluation.models.names import (
    is_builtin,
    is_e5_name,
    is_folder_name,
    is_published,
    is_quantized,
    original_name,
    public_endpoint,
    public_local,
)


def test_folder_and_hub_names_are_told_apart() -> None:
    folders = ["./model", "../models/e5", "/data/e5", "~/e5", "models/e5/final", "my model"]
    others = ["intfloat/e5-large-unsupervised", "bert-base-uncased", "builtin:multilingual-e5-small"]
    assert [name for name in others + folders if is_folder_name(name)] == folders


def test_the_e5_family_is_known_by_name() -> None:
    family = [
        "intfloat/e5-large-unsupervised",
        "builtin:multilingual-e5-small",
        "/cache/models--intfloat--e5-base-v2/snapshots/0123abcd",
    ]
    others = [
        "./runs/e5-base-v2/",
        "intfloat/multilingual-e5-large-instruct",
        "someone/my-e5-small",
        "sentence-transformers/all-MiniLM-L6-v2",
    ]
    assert [name for name in others + family if is_e5_name(name)] == family


def test_public_names_say_where_weights_come_from() -> None:
    names = [model.public_name for model in BUILTIN_MODELS.values()]
    assert [original_name(name) for name in names] == [
        "intfloat/multilingual-e5-small",
        "sentence-transformers/all-MiniLM-L6-v2",
    ]
    assert [is_quantized(name) for name in names] == [True, False]
    others = [*names, public_local("final"), public_endpoint("org/served")]
    assert others[2:] == ["local/final", "endpoint/served"]
    assert not any(is_published(name) for name in others)
    assert is_published("intfloat/e5-large-v2")
    assert not is_quantized("someone/model-q4")
    assert is_builtin("builtin:x") and not is_builtin("builtin/x")
