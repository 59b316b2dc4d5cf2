"""The cache's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from services.cache.holdings import Limits
from services.cache.milvus_store import MAX_ANSWER_BYTES
from services.common.config import CacheConfig, load_config
from services.common.settings import home, number, runtime, secret

DEFAULT_THRESHOLD: Final = 0.92
"""The cosine similarity from which a near question's answer is served, when mesh.yaml names none.

With the guard, at most 0.8% of lookups got a wrong answer on any of four streams of real questions (general, medical,
banking, assistants' intents); without it, or lower, the banking and general ones pass 1%.
"""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What the cache is told at its start."""

    listen: str
    """MYCEL_CACHE_LISTEN: `host:port` or `unix:PATH`."""
    config: CacheConfig
    """`cache` in mesh.yaml."""
    store_uri: str
    """`cache.store.uri` in mesh.yaml, or `cache.db` in the state folder."""
    store_token: SecretStr | None
    """MYCEL_STORE_TOKEN or MYCEL_STORE_TOKEN_FILE: `user:password` or an API key for a Milvus server."""
    embedder_folder: Path
    """Where set-up put the embedding model."""
    embedder_threads: int
    """MYCEL_CACHE_THREADS: threads that one embedding uses."""
    max_answer_bytes: int
    """MYCEL_CACHE_MAX_ANSWER_BYTES: a larger answer is not kept."""
    limits: Limits
    """MYCEL_CACHE_MAX_ENTRIES a tenant, and MYCEL_CACHE_MEMORY_BYTES for answers held in memory."""

    @property
    def threshold(self) -> float:
        """The similarity from which a near question's answer is served."""
        return self.config.threshold if self.config.threshold is not None else DEFAULT_THRESHOLD

    @classmethod
    def from_environment(cls) -> CacheSettings:
        """Reads and checks the settings.

        Raises:
            ConfigError: mesh.yaml is wrong.
            SettingsError: a variable is wrong.
        """
        config = load_config().mesh.cache
        return cls(
            listen=os.environ.get("MYCEL_CACHE_LISTEN", "127.0.0.1:50052"),
            config=config,
            store_uri=config.store.uri or str(home() / "cache.db"),
            store_token=secret("MYCEL_STORE_TOKEN"),
            embedder_folder=runtime() / "minilm",
            embedder_threads=int(number("MYCEL_CACHE_THREADS", 1, least=1, most=64)),
            max_answer_bytes=int(
                number("MYCEL_CACHE_MAX_ANSWER_BYTES", 1024 * 1024, least=1024, most=MAX_ANSWER_BYTES)
            ),
            limits=Limits(
                entries_per_tenant=int(number("MYCEL_CACHE_MAX_ENTRIES", 100_000, least=1, most=10_000_000)),
                recent_answer_bytes=int(number("MYCEL_CACHE_MEMORY_BYTES", 64 * 1024 * 1024, least=0, most=2**40)),
            ),
        )
