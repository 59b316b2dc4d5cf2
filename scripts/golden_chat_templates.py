"""Writes what the reference engine renders, for the test of our chat templates.

To be run in an environment that has `transformers`, whose `apply_chat_template` everybody's templates are written for:

    python scripts/golden_chat_templates.py
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import transformers
from transformers.utils import chat_template_utils as reference

FOLDER = Path(__file__).resolve().parents[1] / "tests" / "golden" / "chat_templates"
NOW = dt.datetime(2026, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
SPECIAL = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


class _Clock(dt.datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
        return NOW.astimezone(tz) if tz else NOW


def render(template: str, conversation: dict) -> str:
    """Gives the prompt, or `refused: ` and why."""
    try:
        rendered, _ = reference.render_jinja_template(
            conversations=[conversation["messages"]],
            tools=conversation["tools"],
            chat_template=template,
            add_generation_prompt=True,
            **SPECIAL,
        )
    except reference.jinja2.exceptions.TemplateError as error:
        return f"refused: {error.message}"
    return rendered[0]


def main() -> None:
    """Renders each conversation with each template."""
    for module in (reference, dt):
        if isinstance(getattr(module, "datetime", None), type):
            module.datetime = _Clock
    conversations = json.loads((FOLDER / "conversations.json").read_text())
    rendered = {
        path.name: {each["name"]: render(path.read_text(), each) for each in conversations}
        for path in sorted(FOLDER.glob("*.jinja"))
    }
    golden = {"reference": f"transformers {transformers.__version__}", "now": NOW.isoformat(), "rendered": rendered}
    (FOLDER / "rendered.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
