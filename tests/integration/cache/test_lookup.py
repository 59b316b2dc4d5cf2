"""Finding answers again, over real gRPC and Milvus Lite."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration
from mycel.cache.v1 import cache_service_pb2 as pb
from mycel.chat.v1 import types_pb2 as chat

from tests.integration.cache.calls import keep, look, reason_of, refusal, text_of
from tests.integration.cache.conftest import Clients, StartCache
from tests.unit.cache.model import answered, asked, system, user

QUESTION = "What is a semantic cache?"
PARAPHRASE = "What does semantic cache mean?"


async def test_the_same_request_is_an_exact_hit(clients: Clients):
    missed = await look(clients.cache, QUESTION)
    assert reason_of(missed) == "no_entry"
    assert len(missed.embedding) == 384
    assert missed.embedder_id.startswith("all-MiniLM-L6-v2/")
    stored = await keep(
        clients.cache, QUESTION, "By meaning.", embedding=missed.embedding, embedder_id=missed.embedder_id
    )
    assert stored.outcome == pb.STORE_OUTCOME_STORED
    found = await look(clients.cache, QUESTION)
    assert text_of(found) == "By meaning."
    assert found.hit.kind == pb.HIT_KIND_EXACT
    assert found.hit.entry_id == stored.entry_id
    assert found.hit.similarity == 1.0
    assert found.hit.answer.model == "llama-local"
    assert found.hit.answer.cost_usd == 0.01
    assert found.hit.stored_at.seconds > 1_700_000_000
    assert not found.embedding


async def test_other_words_are_a_semantic_hit(clients: Clients):
    stored = await keep(clients.cache, QUESTION, "By meaning.")
    found = await look(clients.cache, PARAPHRASE)
    assert text_of(found) == "By meaning."
    assert found.hit.kind == pb.HIT_KIND_SEMANTIC
    assert found.hit.entry_id == stored.entry_id
    assert 0.92 <= found.hit.similarity < 1
    assert len(found.embedding) == 384


async def test_another_question_is_a_miss_that_names_the_nearest(clients: Clients):
    stored = await keep(clients.cache, QUESTION, "By meaning.")
    missed = await look(clients.cache, "How tall is Mount Fuji?")
    assert reason_of(missed) == "below_threshold"
    assert missed.miss.nearest_entry_id == stored.entry_id
    assert missed.miss.nearest_similarity < 0.5


async def test_a_turned_detail_is_refused_by_the_guard(clients: Clients):
    await keep(clients.cache, "How many tokens are 100 words of English text?", "About 130.")
    missed = await look(clients.cache, "How many tokens are 1000 words of English text?")
    assert reason_of(missed) == "guard"


async def test_a_threshold_from_the_configuration(start_cache: StartCache):
    async with start_cache(threshold=0.99) as clients:
        await keep(clients.cache, QUESTION, "By meaning.")
        assert reason_of(await look(clients.cache, PARAPHRASE)) == "below_threshold"
        stats = await clients.cache.GetStats(pb.GetStatsRequest(), timeout=10)
        assert stats.threshold == 0.99


@pytest.mark.parametrize("other", [{"tenant": "team-b"}, {"scope": "support"}, {"model": "gpt-4o"}])
async def test_what_must_be_equal(clients: Clients, other: dict[str, str]):
    await keep(clients.cache, QUESTION, "By meaning.")
    for question in (QUESTION, PARAPHRASE):
        missed = await look(clients.cache, question, **other)
        assert reason_of(missed) == "no_entry"
        assert not missed.miss.nearest_entry_id


async def test_instructions_must_be_equal(clients: Clients):
    def with_system(text: str, question: str) -> chat.ChatInput:
        return chat.ChatInput(messages=[system(text), user(question)])

    await keep(clients.cache, with_system("Be brief.", QUESTION), "By meaning.")
    assert text_of(await look(clients.cache, with_system("Be brief.", PARAPHRASE))) == "By meaning."
    assert reason_of(await look(clients.cache, with_system("Be long.", PARAPHRASE))) == "no_entry"
    assert reason_of(await look(clients.cache, PARAPHRASE)) == "no_entry"


async def test_conversations_are_found_by_the_same_request_only(clients: Clients):
    def conversation(question: str) -> chat.ChatInput:
        return chat.ChatInput(messages=[user("Hi"), chat.Message(role=chat.ROLE_ASSISTANT), user(question)])

    await keep(clients.cache, conversation(QUESTION), "By meaning.")
    assert text_of(await look(clients.cache, conversation(QUESTION))) == "By meaning."
    missed = await look(clients.cache, conversation(PARAPHRASE))
    assert reason_of(missed) == "no_entry"
    assert not missed.embedding


async def test_a_prompt_longer_than_the_model_reads_is_found_by_the_same_request_only(clients: Clients):
    start = "Please sum up this text. " + "The mesh answers from its cache first. " * 60
    await keep(clients.cache, start + "It ends well.", "A summary.")
    assert text_of(await look(clients.cache, start + "It ends well.")) == "A summary."
    assert reason_of(await look(clients.cache, start + "It ends badly.")) == "no_entry"


async def test_modes(clients: Clients):
    await keep(clients.cache, QUESTION, "By meaning.")
    for mode, reason in ((pb.CACHE_MODE_OFF, "off"), (pb.CACHE_MODE_REFRESH, "refresh")):
        assert reason_of(await look(clients.cache, QUESTION, mode=mode)) == reason
    assert text_of(await look(clients.cache, QUESTION, mode=pb.CACHE_MODE_EXACT)) == "By meaning."
    assert reason_of(await look(clients.cache, PARAPHRASE, mode=pb.CACHE_MODE_EXACT)) == "no_entry"
    assert text_of(await look(clients.cache, PARAPHRASE, mode=pb.CACHE_MODE_UNSPECIFIED)) == "By meaning."


async def test_a_call_cannot_ask_for_more_than_is_configured(start_cache: StartCache):
    async with start_cache(mode="exact") as clients:
        await keep(clients.cache, QUESTION, "By meaning.")
        assert text_of(await look(clients.cache, QUESTION)) == "By meaning."
        assert reason_of(await look(clients.cache, PARAPHRASE)) == "no_entry"
    async with start_cache(mode="off") as clients:
        assert (await keep(clients.cache, QUESTION, "x")).outcome == pb.STORE_OUTCOME_NOT_CACHEABLE
        assert reason_of(await look(clients.cache, QUESTION)) == "off"


async def test_a_second_store_replaces_the_first(clients: Clients):
    first = await keep(clients.cache, QUESTION, "Old.")
    second = await keep(clients.cache, QUESTION, "New.")
    assert first.entry_id == second.entry_id
    for question in (QUESTION, PARAPHRASE):
        assert text_of(await look(clients.cache, question)) == "New."
    stats = await clients.cache.GetStats(pb.GetStatsRequest(), timeout=10)
    assert stats.entries == 1


async def test_an_answer_ends_with_its_time(clients: Clients):
    await keep(clients.cache, QUESTION, "By meaning.", ttl=Duration(nanos=1_000_000))
    kept = await keep(clients.cache, "How tall is Mount Fuji?", "3776 m", ttl=Duration(seconds=3600))
    # Storing the second took longer than the first was to last: the second is the nearest that there is.
    for question in (QUESTION, PARAPHRASE):
        missed = await look(clients.cache, question)
        assert reason_of(missed) == "below_threshold"
        assert missed.miss.nearest_entry_id == kept.entry_id
    assert text_of(await look(clients.cache, "How tall is Mount Fuji?")) == "3776 m"


async def test_what_is_not_whole_is_not_kept(clients: Clients):
    answer = answered("Cut o")
    answer.choices[0].finish_reason = chat.FINISH_REASON_LENGTH
    stored = await keep(clients.cache, QUESTION, answer)
    assert (stored.outcome, stored.entry_id) == (pb.STORE_OUTCOME_NOT_CACHEABLE, "")
    assert reason_of(await look(clients.cache, QUESTION)) == "no_entry"


async def test_a_large_answer_comes_back_whole_and_a_larger_one_is_refused(start_cache: StartCache):
    large = "0123456789abcdef" * 20_000
    async with start_cache(max_answer_bytes=400_000) as clients:
        await keep(clients.cache, QUESTION, large)
        # Larger than what is held in memory: this comes from the store.
        assert text_of(await look(clients.cache, QUESTION)) == large
        stored = await keep(clients.cache, "Another question?", large + large)
        assert (stored.outcome, stored.entry_id) == (pb.STORE_OUTCOME_TOO_LARGE, "")


async def test_the_longest_unused_entry_makes_room(start_cache: StartCache):
    async with start_cache(max_entries=2) as clients:
        for name in ("Rome", "Oslo"):
            await keep(clients.cache, f"What is the capital city called {name} known for?", name)
        assert text_of(await look(clients.cache, "What is the capital city called Rome known for?")) == "Rome"
        await keep(clients.cache, "Who painted the Mona Lisa?", "Leonardo")
        await keep(clients.cache, "Who is asked by another tenant?", "them", tenant="team-b")
        assert (await look(clients.cache, "What is the capital city called Oslo known for?")).HasField("miss")
        assert text_of(await look(clients.cache, "What is the capital city called Rome known for?")) == "Rome"
        assert text_of(await look(clients.cache, "Who painted the Mona Lisa?")) == "Leonardo"
        assert text_of(await look(clients.cache, "Who is asked by another tenant?", tenant="team-b")) == "them"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.LookupRequest(key=pb.CacheKey(model="auto"), input=asked("Hi")), "key.tenant"),
        (pb.LookupRequest(key=pb.CacheKey(tenant="a"), input=asked("Hi")), "key.model"),
        (pb.LookupRequest(key=pb.CacheKey(tenant="a" * 257, model="auto"), input=asked("Hi")), "key.tenant"),
        (pb.LookupRequest(key=pb.CacheKey(tenant="a", model="auto")), "input.messages"),
        (pb.LookupRequest(key=pb.CacheKey(tenant="a", model="auto"), input=asked("Hi"), mode=99), "mode"),
        (
            pb.LookupRequest(
                key=pb.CacheKey(tenant="a", model="auto"),
                input=chat.ChatInput(
                    messages=[user("Hi")], parameters=chat.GenerationParameters(temperature=float("nan"))
                ),
            ),
            "input.parameters",
        ),
    ],
)
async def test_bad_lookups_name_the_field(clients: Clients, request_: pb.LookupRequest, field: str):
    error = await refusal(clients.cache.Lookup(request_, timeout=10))
    assert (error.reason_name, error.field) == ("INVALID_ARGUMENT", field)


async def test_bad_vectors_and_times_are_refused_and_foreign_vectors_are_made_anew(clients: Clients):
    embedder_id = (await look(clients.cache, QUESTION)).embedder_id
    for values in ([0.5], [float("nan")] * 384, [0.0] * 384, [1.0] * 384):
        error = await refusal(keep(clients.cache, QUESTION, "x", embedding=values, embedder_id=embedder_id))
        assert (error.reason_name, error.field) == ("INVALID_ARGUMENT", "embedding")
    for ttl in (Duration(), Duration(seconds=-1), Duration(seconds=10**11)):
        error = await refusal(keep(clients.cache, QUESTION, "x", ttl=ttl))
        assert (error.reason_name, error.field) == ("INVALID_ARGUMENT", "ttl")
    await keep(clients.cache, QUESTION, "By meaning.", embedding=[0.5], embedder_id="another/1")
    assert text_of(await look(clients.cache, PARAPHRASE)) == "By meaning."


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\x00\x01\x1b[31m" * 100, "\u202eabc\u202c אבג", "🚀" * 5000])
async def test_odd_prompts_are_kept_and_found(clients: Clients, text: str):
    await keep(clients.cache, text, "odd")
    assert text_of(await look(clients.cache, text)) == "odd"
    assert text_of(await look(clients.cache, text, mode=pb.CACHE_MODE_EXACT)) == "odd"
