"""OpenAI's JSON on top of the engine: `schema` and `parse` read it, `render` writes it, `servicer` serves it."""
