"""The embedding model against sentence-transformers' own vectors."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.cache.embedder import MiniLmEmbedder
from services.common.settings import SettingsError
from tests.unit.cache.model import embedder, model_folder

LONG = "one short word after another " * 400


def reference() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("minilm_reference.json").read_text(encoding="utf-8"))


def reference_vectors() -> np.ndarray:
    rows = [np.frombuffer(base64.b64decode(text), dtype="<f4") for text in reference()["vectors"]]
    return np.stack(rows).astype(np.float64)


def test_one_by_one_equal_to_the_reference():
    for sentence, expected in zip(reference()["sentences"], reference_vectors(), strict=True):
        vector = embedder().embed([sentence])[0].vector
        assert float(vector @ expected) >= 0.9999, sentence
        assert np.abs(vector - expected).max() < 1e-5, sentence


def test_padding_in_a_batch_changes_nothing():
    vectors = [embedding.vector for embedding in embedder().embed(reference()["sentences"])]
    similarities = (np.stack(vectors) * reference_vectors()).sum(axis=1)
    assert similarities.min() >= 0.9999


def test_the_reference_is_of_the_weights_that_setup_fetched():
    manifest = json.loads((model_folder() / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["weights_sha256"] == reference()["weights_sha256"]
    assert len(reference()["sentences"]) == 20


def test_a_long_text_is_cut_at_256_tokens():
    model = embedder()
    assert model.reads_whole("a question of usual length")
    assert not model.reads_whole(LONG)
    same_start = LONG + "and a wholly different ending about penguins"
    one, other = model.embed([LONG, same_start])
    assert one.tokens == other.tokens == 256
    assert float(one.vector @ other.vector) > 0.999999


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, " " * 1_000_000, "x " + " " * 900_000 + "y", "\x00\x01\x02", "\u202eabc\u202c", "é" * 70_000],
)
def test_odd_texts_have_a_unit_vector(text: str):
    [embedding] = embedder().embed([text])
    assert abs(float(np.linalg.norm(embedding.vector)) - 1) < 1e-5
    assert 2 <= embedding.tokens <= 256


def test_a_text_is_tokenized_in_part_only_when_nothing_is_lost():
    # The words after a long run of blanks lie behind the first cut, and are read all the same.
    far = "penguins" + " " * 100_000 + "live in the cold"
    near = "penguins live in the cold"
    one, other = embedder().embed([far, near])
    assert one.tokens == other.tokens
    assert float(one.vector @ other.vector) > 0.999999


def test_nothing_to_embed():
    assert embedder().embed([]) == []


def test_changed_files_are_refused(tmp_path: Path):
    folder = tmp_path / "minilm"
    shutil.copytree(model_folder(), folder)
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(tokenizer.read_bytes() + b" ")
    with pytest.raises(SettingsError, match=r"tokenizer\.json.*make setup"):
        MiniLmEmbedder(folder)


def test_a_missing_model_is_told_in_one_line(tmp_path: Path):
    with pytest.raises(SettingsError, match="make setup"):
        MiniLmEmbedder(tmp_path)
