"""Restarts, invalidation, feedback, stats, isolation and the process itself."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from mycel.cache.v1 import cache_service_pb2 as pb
from mycel.cache.v1.cache_service_pb2_grpc import CacheServiceStub

from services.cache.entries import Entry, EntryInfo
from services.cache.holdings import Holdings, Limits
from services.cache.milvus_store import MilvusStore
from services.common.settings import SettingsError
from tests.integration.cache.calls import keep, look, reason_of, refusal, text_of
from tests.integration.cache.conftest import Clients, StartCache
from tests.unit.cache.model import answered, embedder, model_folder

QUESTION = "What is a semantic cache?"
PARAPHRASE = "What does semantic cache mean?"


async def filled(clients: Clients) -> pb.GetStatsResponse:
    """Waits until everything stored is in memory: a dry run answers only then."""
    await clients.cache.Invalidate(pb.InvalidateRequest(tenant="nobody", dry_run=True), timeout=20)
    return await clients.cache.GetStats(pb.GetStatsRequest(), timeout=20)


async def test_entries_are_found_after_a_restart(start_cache: StartCache):
    async with start_cache() as clients:
        await keep(clients.cache, QUESTION, "By meaning.")
        await keep(clients.cache, "Forget me?", "Gone.", tenant="team-b")
        await clients.cache.Invalidate(pb.InvalidateRequest(tenant="team-b"), timeout=10)
    async with start_cache() as clients:
        assert text_of(await look(clients.cache, QUESTION)) == "By meaning."
        stats = await filled(clients)
        assert (stats.entries, stats.index_complete) == (1, True)
        assert text_of(await look(clients.cache, PARAPHRASE)) == "By meaning."
        assert reason_of(await look(clients.cache, "Forget me?", tenant="team-b")) == "no_entry"


async def test_exact_entries_are_found_before_the_memory_is_filled(tmp_path: Path):
    store = MilvusStore(str(tmp_path / "cache.db"), 8)
    try:
        info = EntryInfo("x", "team-a", "", "", "", "m", 4, 0, 10**15)
        store.put([Entry(info, b"kept", None, "")])
        limits = Limits(entries_per_tenant=10, recent_answer_bytes=100)
        # Not running: nothing fills its memory.
        holdings = Holdings(store, dimensions=8, embedder_id="e", limits=limits)
        assert not holdings.complete
        assert await holdings.find("team-a", "x") == info
        assert await holdings.answer(info) == b"kept"
        assert await holdings.find("team-b", "x") is None
        assert await holdings.find("team-a", "y") is None
    finally:
        store.close()


async def test_entries_of_another_embedder_are_found_by_the_same_request_only(tmp_path: Path, start_cache: StartCache):
    async with start_cache() as clients:
        await keep(clients.cache, QUESTION, "By meaning.")
    store = MilvusStore(str(tmp_path / "cache.db"), embedder().dimensions)
    [(info, vector, _)] = next(iter(store.scan()))
    entry = store.get(info.id)
    store.put([Entry(info, entry.answer, vector, "another/1")])
    store.close()
    async with start_cache() as clients:
        await filled(clients)
        assert text_of(await look(clients.cache, QUESTION)) == "By meaning."
        assert reason_of(await look(clients.cache, PARAPHRASE)) == "no_entry"


async def test_invalidation_by_each_filter(clients: Clients):
    stub = clients.cache
    one = await keep(stub, "Who made the first telescope?", "Lippershey", scope="a")
    await keep(stub, "Who made the first microscope?", answered("Janssen", model="gpt-4o"), scope="b")
    await keep(stub, "How many moons has Mars?", "2")
    await keep(stub, "How many moons has Mars?", "2", tenant="team-b")

    async def count(**filters: object) -> int:
        request = pb.InvalidateRequest(tenant="team-a", dry_run=True, **filters)
        return (await stub.Invalidate(request, timeout=10)).entries

    assert await count() == 3
    assert await count(scope="a") == 1
    assert await count(scope="") == 1
    assert await count(model="gpt-4o") == 1
    assert await count(entry_ids=[one.entry_id, "unknown"]) == 1
    assert await count(older_than=Duration(seconds=3600)) == 0
    assert await count(older_than=Duration(nanos=1_000_000), scope="a") == 1
    assert await count(scope="a", model="gpt-4o") == 0

    removed = await stub.Invalidate(pb.InvalidateRequest(tenant="team-a", scope="a"), timeout=10)
    assert removed.entries == 1
    assert (await look(stub, "Who made the first telescope?", scope="a")).HasField("miss")
    assert text_of(await look(stub, "How many moons has Mars?")) == "2"
    again = await stub.Invalidate(pb.InvalidateRequest(tenant="team-a", scope="a"), timeout=10)
    assert again.entries == 0
    assert (await stub.Invalidate(pb.InvalidateRequest(tenant="team-a"), timeout=10)).entries == 2
    assert text_of(await look(stub, "How many moons has Mars?", tenant="team-b")) == "2"
    error = await refusal(stub.Invalidate(pb.InvalidateRequest(), timeout=10))
    assert (error.reason_name, error.field) == ("INVALID_ARGUMENT", "tenant")


async def test_removed_entries_do_not_stand_in_the_way_of_others(clients: Clients):
    removed = [
        "What's a semantic cache?",
        "What does a semantic cache mean?",
        "Define semantic cache",
        "Semantic cache?",
    ]
    removed.append("What exactly is a semantic cache?")
    ids = [(await keep(clients.cache, question, "Old.")).entry_id for question in removed]
    await keep(clients.cache, "How would you describe a semantic cache?", "By meaning.")
    await clients.cache.Invalidate(pb.InvalidateRequest(tenant="team-a", entry_ids=ids), timeout=10)
    assert text_of(await look(clients.cache, QUESTION)) == "By meaning."


async def test_feedback(clients: Clients):
    entry_id = (await keep(clients.cache, QUESTION, "By meaning.")).entry_id

    def report(tenant: str, reported: str, *, correct: bool):
        request = pb.ReportFeedbackRequest(tenant=tenant, entry_id=reported, correct=correct)
        return clients.cache.ReportFeedback(request, timeout=10)

    for tenant, reported in (("team-b", entry_id), ("team-a", "0" * 32)):
        for correct in (True, False):
            error = await refusal(report(tenant, reported, correct=correct))
            assert (error.reason_name, error.field) == ("ENTRY_NOT_FOUND", "entry_id")
    assert not (await report("team-a", entry_id, correct=True)).removed
    assert text_of(await look(clients.cache, PARAPHRASE)) == "By meaning."
    assert (await report("team-a", entry_id, correct=False)).removed
    for question in (QUESTION, PARAPHRASE):
        assert reason_of(await look(clients.cache, question)) == "no_entry"
    assert (await refusal(report("team-a", entry_id, correct=False))).reason_name == "ENTRY_NOT_FOUND"


async def test_stats_by_tenant_and_over_all(clients: Clients):
    await keep(clients.cache, QUESTION, "By meaning.")
    await keep(clients.cache, QUESTION, "By meaning.", tenant="team-b")
    for question in (QUESTION, PARAPHRASE, "How tall is Mount Fuji?"):
        await look(clients.cache, question)
    await look(clients.cache, QUESTION, mode=pb.CACHE_MODE_OFF)
    mine = await clients.cache.GetStats(pb.GetStatsRequest(tenant="team-a"), timeout=10)
    assert (mine.entries, mine.lookups, mine.exact_hits, mine.semantic_hits) == (1, 3, 1, 1)
    everybody = await clients.cache.GetStats(pb.GetStatsRequest(), timeout=10)
    assert (everybody.entries, everybody.lookups) == (2, 3)
    assert everybody.answer_bytes == 2 * mine.answer_bytes > 0
    assert everybody.index_complete
    assert everybody.embedder_id == embedder().id
    assert everybody.store_uri.endswith("cache.db")


@pytest.mark.parametrize("seed", range(3))
async def test_no_tenant_scope_or_model_ever_gets_anothers_answer(clients: Clients, seed: int):
    """Random stores, lookups and removals, with the same few questions asked by everybody."""
    rng = random.Random(seed)
    questions = [QUESTION, PARAPHRASE, "What's a semantic cache?", "How tall is Mount Fuji?", "Mount Fuji is how tall?"]
    for step in range(150):
        owner = {
            "tenant": rng.choice(["a", "b", "ab"]),
            "scope": rng.choice(["", "b"]),
            "model": rng.choice(["auto", "m"]),
        }
        label = "/".join(owner.values())
        action = rng.random()
        if action < 0.3:
            await keep(clients.cache, rng.choice(questions), f"{label}#{step}", **owner)
        elif action < 0.4:
            request = pb.InvalidateRequest(tenant=owner["tenant"], scope=owner["scope"])
            await clients.cache.Invalidate(request, timeout=10)
        else:
            found = await look(clients.cache, rng.choice(questions), **owner)
            if found.HasField("hit"):
                assert text_of(found).split("#")[0] == label


async def test_many_at_once_are_all_kept(clients: Clients):
    numbers = range(300)
    vector = (await look(clients.cache, QUESTION)).embedding
    questions = [f"Question number {number}?" for number in numbers]
    stored = await asyncio.gather(
        *(keep(clients.cache, text, text, embedding=vector, embedder_id=embedder().id) for text in questions)
    )
    assert len({response.entry_id for response in stored}) == len(numbers)
    found = await asyncio.gather(*(look(clients.cache, text, mode=pb.CACHE_MODE_EXACT) for text in questions))
    assert [text_of(response) for response in found] == questions


async def test_health_and_reflection(clients: Clients):
    names = {"mycel.cache.v1.CacheService", "mycel.embedding.v1.EmbeddingService"}
    async with grpc.aio.insecure_channel(clients.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", *names):
            status = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            assert status.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in reflection.ServerReflectionInfo(iter([asked]), timeout=10):
            assert names <= {service.name for service in answer.list_services_response.service}


async def test_a_second_cache_on_the_same_state_is_refused(clients: Clients, start_cache: StartCache):
    with pytest.raises(SettingsError, match="another process is using it"):
        async with start_cache():
            pytest.fail("started")
    await keep(clients.cache, QUESTION, "By meaning.")
    assert text_of(await look(clients.cache, QUESTION)) == "By meaning."


async def start_process(home: Path) -> tuple[asyncio.subprocess.Process, CacheServiceStub, grpc.aio.Channel]:
    listen = f"unix:{home}/c.sock"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MYCEL_HOME": str(home),
        "MYCEL_RUNTIME": str(model_folder().parent),
        "MYCEL_CACHE_LISTEN": listen,
    }
    environment.pop("MYCEL_CONFIG", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cache", env=environment, stderr=asyncio.subprocess.PIPE
    )
    channel = grpc.aio.insecure_channel(listen)
    health = health_pb2_grpc.HealthStub(channel)
    await health.Check(health_pb2.HealthCheckRequest(), timeout=60, wait_for_ready=True)
    return process, CacheServiceStub(channel), channel


@pytest.fixture
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a name short enough for a socket's."""
    return tmp_path_factory.mktemp("c")


async def test_the_process_survives_a_kill_with_all_it_acknowledged_and_stops_when_asked(short_folder: Path):
    process, stub, channel = await start_process(short_folder)
    try:
        kept = await asyncio.gather(*(keep(stub, f"Question number {number}?", f"{number}") for number in range(40)))
        process.kill()
        await process.wait()
    finally:
        await channel.close()
    process, stub, channel = await start_process(short_folder)
    try:
        for number, response in enumerate(kept):
            found = await look(stub, f"Question number {number}?", mode=pb.CACHE_MODE_EXACT)
            assert (text_of(found), found.hit.entry_id) == (f"{number}", response.entry_id)
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0
        assert b"Traceback" not in errors
        assert b"Question number" not in errors
    finally:
        await channel.close()


async def test_a_wrong_setting_ends_the_process_with_one_line(short_folder: Path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MYCEL_RUNTIME": str(short_folder)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cache", env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert errors.decode().splitlines()[-1].startswith("cache: the embedding model is not in")
