"""Turns texts into vectors. Built in: all-MiniLM-L6-v2 on ONNX Runtime, prepared by scripts/setup_embedder.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from services.common.settings import SettingsError

Vector = npt.NDArray[np.float32]
"""float32, shape (dimensions,), of length 1."""

_MAX_TOKENS: Final = 256
"""What the model reads of a text, start and end marks included, as sentence-transformers cuts it."""

_LONGEST_WORD: Final = 100
"""A longer word is one unknown token; so cutting a text can change at most this many of its last tokens."""

_FIRST_CUT: Final = 4096
"""Characters that nearly always hold more tokens than the model reads; a longer text is not read whole."""

_BATCH_TOKENS: Final = 2048
"""The most tokens, padding included, of one run of the model: what bounds a run's memory and time."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text's vector."""

    vector: Vector
    tokens: int
    """Tokens that the model read, start and end marks included."""


class Embedder(Protocol):
    """Makes vectors. Safe to call from several threads; blocks."""

    @property
    def id(self) -> str:
        """Names the vector space: only vectors with the same id may be compared."""

    @property
    def dimensions(self) -> int:
        """The length of every vector."""

    def reads_whole(self, text: str) -> bool:
        """Whether the model would read the whole text. Takes a fraction of the time of `embed`."""

    def embed(self, texts: Sequence[str]) -> list[Embedding]:
        """Gives one embedding a text, in order."""


class MiniLmEmbedder:
    """all-MiniLM-L6-v2: 384 dimensions, mean pooling, unit length."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        """Loads the model and checks that its files are the ones that set-up wrote.

        Args:
            folder: where set-up put the model.
            threads: how many threads one run uses.

        Raises:
            SettingsError: the model is missing or its files were changed.
        """
        manifest = _checked_manifest(folder)
        self._id = str(manifest["embedder_id"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # The arena keeps the largest run's memory for good; runs are small enough to do without.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._dimensions = int(self._session.get_outputs()[0].shape[1])

    @property
    def id(self) -> str:
        """The model, its precision and a version."""
        return self._id

    @property
    def dimensions(self) -> int:
        """384."""
        return self._dimensions

    def reads_whole(self, text: str) -> bool:
        """Whether the text has at most 256 tokens."""
        return self._tokens(text)[1]

    def embed(self, texts: Sequence[str]) -> list[Embedding]:
        """Gives one embedding a text, in order; a text longer than 256 tokens is cut there."""
        encoded = [self._tokens(text) for text in texts]
        results: list[Embedding | None] = [None] * len(texts)
        for batch in _batches([len(ids) for ids, _ in encoded]):
            vectors = self._run([encoded[position][0] for position in batch])
            for position, vector in zip(batch, vectors, strict=True):
                ids, _ = encoded[position]
                results[position] = Embedding(vector, len(ids))
        return [result for result in results if result is not None]

    def _tokens(self, text: str) -> tuple[list[int], bool]:
        """Gives the ids that the model reads, and whether they are all of the text's."""
        cut = _FIRST_CUT
        while True:
            ids: list[int] = self._tokenizer.encode(text[:cut]).ids
            if cut >= len(text) or len(ids) >= _MAX_TOKENS + _LONGEST_WORD:
                break
            cut *= 4
        if len(ids) <= _MAX_TOKENS:
            return ids, cut >= len(text)
        return [*ids[: _MAX_TOKENS - 1], ids[-1]], False

    def _run(self, rows: list[list[int]]) -> npt.NDArray[np.float32]:
        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), dtype=np.int32)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        outputs: list[Any] = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        vectors: npt.NDArray[np.float32] = outputs[0]
        return vectors


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Groups positions of like length, so that little is padded and no run exceeds the bound."""
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= _BATCH_TOKENS:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def _checked_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name in ("model.onnx", "tokenizer.json"):
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != manifest["files"][name]:
                    raise SettingsError(f"{folder / name}: changed since set-up wrote it; run `make setup`")
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"the embedding model is not in {folder}; run `make setup`") from error
    return manifest
