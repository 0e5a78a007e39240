"""Programs: ids, revisions, versions, and the outcome that is stored with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.store.rows import TTL_MS, Hand, OpenStore, failure, finish, success, ticket
from worker.errors import ProgramExistsError, ProgramNotFoundError
from worker.store import Holding, NewProgram, ProgramRecord, Store, StoredOutcome, Verdict


def new(program_id: str = "p", **changes: object) -> NewProgram:
    """Make a program to create."""
    return NewProgram(**{"program_id": program_id, "fingerprint": "f1", "definition": '{"a":1}', **changes})  # type: ignore[arg-type]


def answer(record: ProgramRecord) -> StoredOutcome:
    """Answer with the version, so that the reply shows which record it was made from."""
    return success(f"version {record.version}".encode())


async def create(store: Store, program: NewProgram) -> ProgramRecord:
    """Create without an inbox row."""
    return (await store.create_program(program, ticket=None, token="", answer=answer))[0]


async def test_created_program_is_read_with_a_claim_of_another_worker(store: Store, other: Store) -> None:
    """Created through one worker, it runs on any other at once."""
    record = await create(store, new())

    claim = await other.claim(ticket(program_id="p"))

    assert claim.program == record
    assert (record.program_id, record.version, record.executions, record.last_executed_ms) == ("p", 1, 0, None)
    assert record == await other.get_program("p")


async def test_claim_of_an_unknown_program_has_none(store: Store) -> None:
    """The claim itself is fine; the caller decides."""
    claim = await store.claim(ticket(program_id="missing"))

    assert (claim.verdict, claim.program) == (Verdict.MINE, None)
    assert await store.get_program("missing") is None


async def test_program_and_outcome_are_stored_together(store: Store) -> None:
    """The reply is made from the stored record and is the job's outcome."""
    claim = await store.claim(ticket())

    record, outcome = await store.create_program(new(), ticket=ticket(), token=claim.token, answer=answer)

    assert outcome == success(b"version 1")
    assert record == await store.get_program("p")
    assert outcome == (await store.claim(ticket())).stored


async def test_same_definition_is_the_same_program(store: Store) -> None:
    """However often, with and without replace: revision and version stay."""
    first = await create(store, new())

    again = [await create(store, new()), await create(store, new(replace=True))]

    assert [first, first] == again


async def test_replace_makes_a_version_with_a_fresh_revision(store: Store) -> None:
    """The revision is what caches go by; the id, its age and its count stay."""
    first = await create(store, new())
    await store.add_executions({("", "p"): 2})

    second = await create(store, new(fingerprint="f2", definition="{}", replace=True))

    assert (second.version, second.fingerprint, second.definition) == (2, "f2", "{}")
    assert (second.created_ms, second.executions) == (first.created_ms, 2)
    assert second.revision != first.revision


async def test_other_definition_is_refused_and_nothing_is_stored(store: Store, hand: Hand) -> None:
    """program_exists; the claim is still held, so the refusal can be forgotten."""
    first = await create(store, new())
    claim = await store.claim(ticket())

    with pytest.raises(ProgramExistsError):
        await store.create_program(new(fingerprint="f2"), ticket=ticket(), token=claim.token, answer=answer)
    between = await store.claim(ticket())
    await store.forget(ticket(), token=claim.token)

    assert between.verdict is Verdict.HERE
    assert await hand.job("job") is None
    assert first == await store.get_program("p")


async def test_fault_while_answering_stores_nothing(store: Store) -> None:
    """One transaction: no program without its reply."""

    def broken(record: ProgramRecord) -> StoredOutcome:
        raise RuntimeError(record.program_id)

    with pytest.raises(RuntimeError):
        await store.create_program(new(), ticket=None, token="", answer=broken)

    assert await store.get_program("p") is None


async def test_late_second_run_of_a_create_changes_nothing(store: Store, other: Store, hand: Hand) -> None:
    """First success wins: what was replaced since stays replaced, and the stored bytes come back."""
    late = await store.claim(ticket())
    await hand.give_to_ghost("job", seen_ms_ago=11_000)
    claim = await other.claim(ticket())
    old = new(fingerprint="old", replace=True)
    _, first = await other.create_program(old, ticket=ticket(), token=claim.token, answer=answer)
    newer = await create(other, new(fingerprint="newer", replace=True))

    record, outcome = await store.create_program(old, ticket=ticket(), token=late.token, answer=answer)

    assert (record, outcome) == (newer, first)
    assert newer == await store.get_program("p")


async def test_late_second_run_of_a_create_does_not_bring_a_deleted_program_back(store: Store) -> None:
    """The stored outcome comes back, and the record says that there is no program."""
    claim = await store.claim(ticket())
    _, first = await store.create_program(new(), ticket=ticket(), token=claim.token, answer=answer)
    await store.delete_program("p", holding=Holding(None, "", TTL_MS), outcome=success())

    record, outcome = await store.create_program(new(), ticket=ticket(), token=claim.token, answer=answer)

    assert (record.version, outcome) == (0, first)
    assert await store.get_program("p") is None


async def test_eight_workers_creating_one_program_make_one_row(open_store: OpenStore) -> None:
    """The same definition from everywhere at once is one program."""
    stores = [await open_store() for _ in range(8)]

    records = await asyncio.gather(*(create(store, new()) for store in stores))

    assert {record.revision for record in records} == {records[0].revision}


async def test_deleted_program_is_gone_with_its_outcome_stored(store: Store) -> None:
    """One transaction with the outcome."""
    await create(store, new())
    claim = await store.claim(ticket())

    deleted = await store.delete_program("p", holding=Holding(ticket(), claim.token, TTL_MS), outcome=success())

    assert success() == deleted == await store.get_result("job")
    assert await store.get_program("p") is None


async def test_deleting_an_unknown_program_stores_nothing(store: Store) -> None:
    """The claim is still held for the refusal."""
    claim = await store.claim(ticket())

    with pytest.raises(ProgramNotFoundError):
        await store.delete_program("p", holding=Holding(ticket(), claim.token, TTL_MS), outcome=success())
    stored = await finish(store, ticket(), token=claim.token, outcome=failure())

    assert failure() == stored


async def test_late_second_delete_does_not_delete_what_was_created_since(store: Store) -> None:
    """The job is done: it deletes nothing more."""
    await create(store, new())
    claim = await store.claim(ticket())
    delete: Callable[[], object] = lambda: store.delete_program(  # noqa: E731
        "p", holding=Holding(ticket(), claim.token, TTL_MS), outcome=success()
    )
    await delete()  # type: ignore[misc]
    record = await create(store, new())

    await delete()  # type: ignore[misc]

    assert record == await store.get_program("p")


async def test_programs_are_listed_and_counted_per_tenant(store: Store) -> None:
    """The oldest first; another tenant's are not seen."""
    for program in (new("b"), new("a"), new("c", tenant="t")):
        await create(store, program)

    listed = await store.list_programs()

    assert sorted(record.program_id for record in listed) == ["a", "b"]
    assert [record.created_ms for record in listed] == sorted(record.created_ms for record in listed)
    assert (await store.count_programs(), await store.count_programs(tenant="t")) == (2, 1)


async def test_programs_are_listed_in_pages(store: Store) -> None:
    """So many after the first ones, in the order of their age."""
    for name in "abcde":
        await create(store, new(name))

    pages = [await store.list_programs(limit=2, offset=offset) for offset in (0, 2, 4, 6)]
    all_of_them = await store.list_programs()

    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert [record for page in pages for record in page] == all_of_them


async def test_a_page_reads_no_more_definitions_than_fit(store: Store) -> None:
    """It ends with the one that goes over the bound, so it has one at least, and whoever pages gets to the end."""
    for name in "abc":
        await create(store, new(name))
    [length, *_] = [len(record.definition) for record in await store.list_programs()]

    pages = [await store.list_programs(most_characters=most) for most in (1, length, 2 * length, 3 * length)]
    rest = await store.list_programs(offset=2, most_characters=1)

    assert [[record.program_id for record in page] for page in pages] == [["a"], ["a", "b"], list("abc"), list("abc")]
    assert [record.program_id for record in rest] == ["c"]


async def test_executions_are_added_in_batches(store: Store, other: Store) -> None:
    """Two workers add up; unknown ids are ignored; each tenant has its own count; an empty batch is none."""
    for program in (new("a"), new("b"), new("a", tenant="t")):
        await create(store, program)

    await asyncio.gather(
        store.add_executions({("", "a"): 1, ("", "b"): 2, ("", "gone"): 9, ("t", "a"): 5}),
        other.add_executions({("", "b"): 3, ("", "a"): 4}),
        other.add_executions({}),
    )
    records = {record.program_id: record for record in await store.list_programs()}

    theirs = await store.get_program("a", tenant="t")

    assert (records["a"].executions, records["b"].executions, theirs and theirs.executions) == (5, 5, 5)
    assert (records["a"].last_executed_ms or 0) >= records["a"].created_ms
