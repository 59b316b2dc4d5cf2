"""Prompts: what a template sees, and that no message can pass for something else."""

from __future__ import annotations

import pytest

from services.common.errors import MycelError
from services.inference.chat_template import ChatTemplate
from services.inference.model_file import ModelFileError, PromptFacts
from tests.fakes.tiny_gguf import BOS, CHAT_TEMPLATE, CONTROL_TOKENS, END_OF_TEXT

HELLO = [{"role": "user", "content": "Hello"}]


def facts(template: str = CHAT_TEMPLATE, *, adds_bos: bool = True) -> PromptFacts:
    return PromptFacts(template, BOS, END_OF_TEXT, adds_bos, CONTROL_TOKENS, {})


def test_llama_3_conversation() -> None:
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    assert ChatTemplate(facts()).render(messages) == (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_first_token_is_there_once_whoever_puts_it() -> None:
    assert not ChatTemplate(facts()).render(HELLO).startswith(BOS)
    assert ChatTemplate(facts(adds_bos=False)).render(HELLO).startswith(BOS)


@pytest.mark.parametrize("token", CONTROL_TOKENS)
def test_control_token_in_a_message_loses_its_spelling(token: str) -> None:
    template = ChatTemplate(facts())
    plain = template.render([{"role": "user", "content": "a  b"}])
    crafted = template.render([{"role": "user", "content": f"a {token} b"}])
    assert [crafted.count(each) for each in CONTROL_TOKENS] == [plain.count(each) for each in CONTROL_TOKENS]
    assert f"a {token[0]}\u200b{token[1:]} b" in crafted


def test_text_of_an_answer_to_go_on_with_is_text_too() -> None:
    template = ChatTemplate(facts())
    assert template.render(HELLO, "so far") == template.render(HELLO) + "so far"
    assert template.render(HELLO, "<|eot_id|>").count("<|eot_id|>") == 1


def test_helpers_that_templates_expect() -> None:
    template = "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% endfor %}"
    template += "{{ messages | tojson }} {{ strftime_now('%Y') | length }}"
    assert ChatTemplate(facts(template)).render([{"role": "user", "content": "<é>"}]) == (
        '[{"role": "user", "content": "<é>"}] 4'
    )


def test_refusal_of_the_template_reaches_the_caller() -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(MycelError, match="roles must alternate") as caught:
        ChatTemplate(facts(template)).render(HELLO)
    assert caught.value.field == "messages"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ 1 / 0 }}",
    ],
)
def test_template_stays_in_its_sandbox(template: str) -> None:
    with pytest.raises(MycelError):
        ChatTemplate(facts(template)).render(HELLO)


def test_invalid_template_is_the_files_fault() -> None:
    with pytest.raises(ModelFileError, match="chat template is not valid"):
        ChatTemplate(facts("{% if %}"))
