"""Reading a GGUF for what prompts are made with."""

from __future__ import annotations

import gguf
import pytest

from services.inference.model_file import ModelFileError, read_prompt_facts
from tests.fakes.tiny_gguf import BOS, CHAT_TEMPLATE, CONTROL_TOKENS, END_OF_TEXT, build_tiny_gguf


def test_facts_of_a_model(tmp_path) -> None:
    model = build_tiny_gguf(tmp_path / "tiny.gguf")
    facts = read_prompt_facts(model.path)
    assert facts.template == CHAT_TEMPLATE
    assert (facts.bos_token, facts.eos_token, facts.adds_bos) == (BOS, END_OF_TEXT, True)
    assert facts.control_tokens == {token: number for number, token in enumerate(CONTROL_TOKENS)}
    assert facts.sampling == {}


def test_sampling_that_the_makers_want(tmp_path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "sampled.gguf", "llama")
    writer.add_chat_template(CHAT_TEMPLATE)
    writer.add_sampling_temp(0.0)
    writer.add_sampling_top_k(20)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_prompt_facts(tmp_path / "sampled.gguf").sampling == {"temperature": 0.0, "top_k": 20.0}


def test_file_without_a_template(tmp_path) -> None:
    model = build_tiny_gguf(tmp_path / "tiny.gguf", chat_template=None)
    with pytest.raises(ModelFileError, match="has no chat template"):
        read_prompt_facts(model.path)


@pytest.mark.parametrize("kept", [0, 3, 30, 1000, 9000])
def test_cut_file(tmp_path, kept: int) -> None:
    whole = build_tiny_gguf(tmp_path / "tiny.gguf").path.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[:kept])
    with pytest.raises(ModelFileError, match="not a whole GGUF"):
        read_prompt_facts(cut)


def test_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read: No such file"):
        read_prompt_facts(tmp_path / "none.gguf")
