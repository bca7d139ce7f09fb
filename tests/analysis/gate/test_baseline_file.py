"""Baseline files: small, the same bytes for the same run, and never believed when they are damaged."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from support.fake_runs import classification, clustering, retrieval, sts, write_run

from evaluation.analysis.gate import baseline_file
from evaluation.analysis.gate.baseline_file import baseline_bytes, is_baseline, load_baseline, parse_baseline
from evaluation.analysis.gate.snapshots import Snapshot, read_run
from evaluation.analysis.statistics.units import score
from evaluation.config.loading import load_config
from evaluation.errors import UsageError
from evaluation.jobs import build_jobs

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Two models on tasks of four kinds."""
    rng = np.random.default_rng(5)
    gold = rng.integers(0, 7, 200)
    jobs = []
    for label in ("zwölf", "a|b"):
        predictions = np.where(rng.random((10, 200)) < 0.8, gold, rng.integers(0, 7, (10, 200)))
        jobs += [
            retrieval(rng.random(60), label=label),
            sts(gold.astype(float), rng.normal(size=200), label=label),
            classification(gold, predictions, label=label),
            clustering(rng.random(10), label=label),
        ]
    return read_run(write_run(tmp_path_factory.mktemp("runs") / "suite", jobs))


def test_file_gives_the_snapshot_back(snapshot: Snapshot) -> None:
    found = parse_baseline(baseline_bytes(snapshot), "file")
    assert (found.name, found.models, found.versions) == (snapshot.name, snapshot.models, snapshot.versions)
    assert set(found.labels) == set(snapshot.labels)
    before = {(job.label, job.task): job for job in snapshot.jobs}
    assert len(found.jobs) == len(before) == 8
    for job in found.jobs:
        other = before[job.label, job.task]
        for name in ("type", "metric", "aggregate", "score", "fault", "conditions"):
            assert getattr(job, name) == getattr(other, name), name
        assert job.units is not None and other.units is not None
        for part, other_part in zip(job.units.parts, other.units.parts, strict=True):
            assert part.ids == other_part.ids
            assert part.arrays.keys() == other_part.arrays.keys()
            for name, values in part.arrays.items():
                np.testing.assert_array_equal(values, other_part.arrays[name])


def test_same_run_gives_the_same_bytes_whatever_the_order(snapshot: Snapshot) -> None:
    turned = Snapshot(snapshot.name, snapshot.jobs[::-1], dict(reversed(snapshot.models.items())), snapshot.versions)
    data = baseline_bytes(snapshot)
    assert baseline_bytes(turned) == data
    assert baseline_bytes(parse_baseline(data, "file")) == data


def test_file_is_small_and_its_head_is_readable(snapshot: Snapshot) -> None:
    data = baseline_bytes(snapshot)
    assert len(data) < 24_000
    head, _, units = data.decode().partition('\n "units": {')
    for text in ('"format": "e5-evaluation baseline"', '"schema_version": 1', "zwölf", '"score": ', '"protocol": "e5"'):
        assert text in head
    assert '"dataset revision": "local-1"' in head and '"weights_sha256": "aaaa"' in head
    assert max(map(len, head.splitlines())) < 120, "lines that a review can show"
    assert len(units.splitlines()) == 2 * (4 + 2) + 3, "a line for each job's units"


def test_layout_of_the_json_does_not_matter(snapshot: Snapshot) -> None:
    """Git on Windows turns line ends, formatters indent."""
    content = json.loads(baseline_bytes(snapshot))
    again = json.dumps(content, indent=4).replace("\n", "\r\n").encode("utf-8-sig")
    assert baseline_bytes(parse_baseline(again, "file")) == baseline_bytes(snapshot)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content["jobs"][0].update(score=0.1), "is damaged or was edited"),
        (lambda content: content["jobs"].pop(), "is damaged or was edited"),
        (lambda content: content.pop("units"), "is damaged or was edited"),
        (lambda content: content.update(checksum="0" * 64), "is damaged or was edited"),
        (lambda content: content.pop("checksum"), "is damaged or was edited"),
        (lambda content: content.update(schema_version=2), "a baseline of schema 2"),
        (lambda content: content.pop("schema_version"), "a baseline of schema None"),
        (lambda content: content.update(format="something else"), "is not a baseline file"),
    ],
)
def test_damage_is_one_sentence(snapshot: Snapshot, tmp_path: Path, change, says: str) -> None:
    content = json.loads(baseline_bytes(snapshot))
    change(content)
    file = tmp_path / "baseline.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UsageError, match=says) as caught:
        load_baseline(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spot", range(12))
def test_flipped_byte_is_never_believed(snapshot: Snapshot, spot: int) -> None:
    data = bytearray(baseline_bytes(snapshot))
    place = len(data) * spot // 12 + 7
    while chr(data[place]) in " \n":
        place += 1
    data[place] ^= 1
    with pytest.raises(UsageError):
        parse_baseline(bytes(data), "file")


@pytest.mark.parametrize("length", [0, 1, 100, -1000, -3])
def test_cut_file_is_foreign(snapshot: Snapshot, length: int) -> None:
    with pytest.raises(UsageError, match="is not a baseline file"):
        parse_baseline(baseline_bytes(snapshot)[:length], "file")


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[]", b"3", b"[" * 100_000, b"<<<<<<< HEAD\n{}"])
def test_foreign_file_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "other.json"
    file.write_bytes(data)
    assert not is_baseline(file)
    with pytest.raises(UsageError, match=r"other\.json is not a baseline file: give a run's folder"):
        load_baseline(file)


@pytest.mark.parametrize("units", ["not base64!", base64.b64encode(b"not units").decode()])
def test_units_that_can_not_be_read_are_damage(snapshot: Snapshot, units: str) -> None:
    """A file whose checksum fits, but which another program wrote."""
    content = json.loads(baseline_bytes(snapshot))
    content["units"]["a|b"]["Retrieve"] = units
    content["checksum"] = baseline_file._checksum(content)
    with pytest.raises(UsageError, match="file is not a complete baseline"):
        parse_baseline(json.dumps(content).encode(), "file")
    content["units"] = {}
    content["jobs"][0]["extra"] = 1
    content["checksum"] = baseline_file._checksum(content)
    with pytest.raises(UsageError, match="file is not a complete baseline"):
        parse_baseline(json.dumps(content).encode(), "file")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_baseline(tmp_path / "none.json")


def test_damaged_baseline_is_still_one(snapshot: Snapshot, tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    file.write_bytes(baseline_bytes(snapshot).replace(b'"score": 0', b'"score": 1', 1))
    assert is_baseline(file)


def test_shipped_baseline_is_of_the_quickstart_as_it_is() -> None:
    """Its tasks, data and protocols; scores are held against it by `make gate`."""
    file = REPOSITORY / "results" / "baselines" / "quickstart.json"
    assert file.stat().st_size < 64 * 1024
    found = {(job.label, job.task): job for job in load_baseline(file).jobs}
    jobs = build_jobs(load_config(REPOSITORY / "configs" / "quickstart.yaml"))
    assert set(found) == {(job.model.label, job.task.name) for job in jobs}
    for job in jobs:
        stored = found[job.model.label, job.task.name]
        assert stored.units is not None and score(stored.units) == pytest.approx(stored.score, abs=1e-9)
        assert stored.conditions["dataset revision"] == job.task.dataset_revision
        rules = {f"protocol's {name}": value for name, value in job.rules.as_dict().items() if name != "protocol"}
        assert {name: stored.conditions[name] for name in rules} == rules
