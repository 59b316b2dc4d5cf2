"""Lets the tests import the backend's parts as Triton's Python process does."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "deploy" / "triton" / "backends" / "llamacpp"))
