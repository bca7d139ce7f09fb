"""The example of the E5 model cards, through our encoder and written out with plain transformers.

The queries are those of the card of intfloat/e5-large-unsupervised; the passages are this project's own words.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore")]

TEXTS = [
    "query: how much protein should a female eat",
    "query: summit define",
    "passage: Protein on the plate: grown women do well with close to a gram for each kilogram they weigh, which two "
    "eggs, a bowl of lentils and a pot of yoghurt supply between them. Older women may eat a little more of it.",
    "passage: Summit is a word for where a climb ends, since nothing stands higher. Newspapers also use it of heads of "
    "state who sit down together, and speakers of the best point in somebody's career.",
]
E5_LARGE = {
    "hidden_size": 1024,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "max_position_embeddings": 512,
}


def average_pool(last_hidden_states, attention_mask):
    """As on the model card: padding counts as zero, and does not count in the length."""
    last_hidden = last_hidden_states.masked_fill(~attention_mask[..., None].bool(), 0.0)
    return last_hidden.sum(dim=1) / attention_mask.sum(dim=1)[..., None]


@cache
def scores_of_the_card(folder: Path, max_length: int):
    """(2, 2) cosine x 100 of queries and passages, by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer(TEXTS, max_length=max_length, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**batch)
    embeddings = average_pool(outputs.last_hidden_state, batch["attention_mask"])
    embeddings = torch.nn.functional.normalize(embeddings, p=2, dim=1)
    return ((embeddings[:2] @ embeddings[2:].T) * 100).numpy()


def our_scores(encoder):
    """The same through our encoder, which is given the prefixes apart from the texts."""
    queries = encoder.encode([text.removeprefix("query: ") for text in TEXTS[:2]], prefix="query: ").vectors
    passages = encoder.encode([text.removeprefix("passage: ") for text in TEXTS[2:]], prefix="passage: ").vectors
    queries, passages = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (queries, passages))
    return queries @ passages.T * 100


@pytest.fixture(scope="module", params=[2, pytest.param(24, marks=pytest.mark.full)], ids="{} layers".format)
def e5_large(request, save_bert, tmp_path_factory):
    """Random weights in the shape of e5-large."""
    folder = tmp_path_factory.mktemp("models") / f"e5-large-{request.param}"
    yield save_bert(folder, max_length=512, num_hidden_layers=request.param, **E5_LARGE)
    shutil.rmtree(folder)


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
def test_model_cards_example_in_the_shape_of_e5_large(e5_large, backend, open_encoder):
    expected = scores_of_the_card(e5_large, 512)
    np.testing.assert_allclose(our_scores(open_encoder(e5_large, backend)), expected, rtol=0, atol=1e-4)
    assert np.ptp(expected) > 0.01


@pytest.mark.parametrize("backend", ["transformers", "sentence-transformers"])
@pytest.mark.parametrize(("name", "max_length"), [("multilingual-e5-small", 512), ("all-MiniLM-L6-v2", 256)])
def test_model_cards_example_with_real_weights(name, max_length, backend, open_encoder):
    from evaluation.errors import EvaluationError
    from evaluation.models.builtin import materialize

    try:
        folder = materialize(name)
    except EvaluationError as error:
        pytest.skip(str(error))
    expected = scores_of_the_card(folder, max_length)
    found = our_scores(open_encoder(f"builtin:{name}", backend))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert found[0, 0] > found[0, 1] + 5  # the passage on protein answers the query on protein
    assert found[1, 1] > found[1, 0] + 5
