"""Lists the tasks whose training data a model has seen, for the E5 family and the models it is compared with.

Sources: the `training_datasets` of mteb 2.26's model registry with the tasks on the same data that mteb derives from
them (`ModelMeta.get_training_datasets`; a test compares), and for multilingual E5 two datasets that its technical
report names besides (arXiv 2402.05672, table of fine-tuning data). `intfloat/e5-*-unsupervised` saw web pairs only
(arXiv 2212.03533, section 3.1).
"""

from __future__ import annotations

import re
from typing import Final

from evaluation.models.names import original_name

_MSMARCO: Final = frozenset(
    [
        "MSMARCO",
        "MSMARCO-Fa",
        "MSMARCO-FaHardNegatives",
        "MSMARCO-PL",
        "MSMARCO-PLHardNegatives",
        "MSMARCO-VN",
        "MSMARCOHardNegatives",
        "MSMARCOv2",
        "MultilingualNanoMSMARCORetrieval",
        "NanoMSMARCO-VN",
        "NanoMSMARCORetrieval",
        "mMARCO-NL",
    ]
)
_NQ: Final = frozenset(
    [
        "MultilingualNanoNQRetrieval",
        "NQ",
        "NQ-Fa",
        "NQ-FaHardNegatives",
        "NQ-NL",
        "NQ-PL",
        "NQ-PLHardNegatives",
        "NQ-VN",
        "NQHardNegatives",
        "NQTablesRetrieval",
        "NanoNQ-VN",
        "NanoNQRetrieval",
    ]
)
_FEVER: Final = frozenset(
    [
        "FEVER",
        "FEVER-FaHardNegatives",
        "FEVER-NL",
        "FEVER-PL",
        "FEVER-VN",
        "FEVERHardNegatives",
        "FEVERHardNegatives.v2",
        "MultilingualNanoFEVERRetrieval",
        "NanoFEVER-VN",
        "NanoFEVERRetrieval",
    ]
)
_HOTPOTQA: Final = frozenset(
    [
        "HotpotQA",
        "HotpotQA-Fa",
        "HotpotQA-FaHardNegatives",
        "HotpotQA-NL",
        "HotpotQA-PL",
        "HotpotQA-PLHardNegatives",
        "HotpotQA-VN",
        "HotpotQAHardNegatives",
        "HotpotQAHardNegatives.v2",
        "MultilingualNanoHotpotQARetrieval",
        "NanoHotpotQA-VN",
        "NanoHotpotQARetrieval",
    ]
)
_MULTILINGUAL: Final = frozenset(
    [
        "MIRACLJaRetrievalLite",
        "MIRACLReranking",
        "MIRACLRetrieval",
        "MIRACLRetrievalHardNegatives",
        "MIRACLRetrievalHardNegatives.v2",
        "MrTidyRetrieval",
        "MrTyDiJaRetrievalLite",
        "XQuADRetrieval",
    ]
)
_BGE: Final = frozenset(
    ["AmazonReviewsClassification", "AmazonReviewsVNClassification", "DuRetrieval", "MLQARetrieval"]
)
_NAMED_BY_THE_REPORT: Final = frozenset({"QuoraRetrieval", "DuRetrieval"})

_E5: Final = _MSMARCO | _NQ
_MULTILINGUAL_E5: Final = _E5 | _FEVER | _HOTPOTQA | _MULTILINGUAL | _NAMED_BY_THE_REPORT

_BY_NAME: Final = (
    (r"intfloat/e5-(small|base|large)-unsupervised", frozenset[str]()),
    (r"intfloat/e5-(small|base|large)(-v2)?", _E5),
    (r"intfloat/multilingual-e5-(small|base|large|large-instruct)", _MULTILINGUAL_E5),
    (r"intfloat/e5-mistral-7b-instruct", _E5 | _FEVER | _HOTPOTQA | _MULTILINGUAL),
    (r"BAAI/bge-(small|base|large)-en-v1\.5", _NQ | _BGE),
    (r"sentence-transformers/all-(MiniLM-L6-v2|MiniLM-L12-v2|mpnet-base-v2)", _E5),
)


def trained_on(model: str) -> frozenset[str] | None:
    """mteb's names of the tasks whose training data a model has seen; None: not known here.

    Args:
        model: A Hub name, or builtin/<name> as records have it.
    """
    name = original_name(model)
    return next((tasks for pattern, tasks in _BY_NAME if re.fullmatch(pattern, name)), None)
