"""Which workers differ from the others, and by what."""

from __future__ import annotations

import pytest

from tests.support.left_hand import make_settings
from worker.settings import Settings, settings_hash
from worker.settings.agreement import OF_ONE_WORKER
from worker.store.workers import WorkerRecord, differences


def worker(
    number: int, *, version: str | None = "2", settings: str | None = "s", is_living: bool = True
) -> WorkerRecord:
    return WorkerRecord(f"w{number}", "host", version, 1.0, 0.5, is_living, settings=settings)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["2", "2", "2"], []),
        (["2", "1", "2"], ["w1"]),
        (["2", None, "2"], ["w1"]),
        (["2", "1"], ["w0", "w1"]),
        (["1", "1", "2", "2", "3"], ["w0", "w1", "w2", "w3", "w4"]),
        ([], []),
    ],
)
def test_the_majority_is_right_and_without_one_nobody_is(versions, expected):
    """An operator is shown all that may be the wrong ones."""
    found = differences([worker(number, version=version) for number, version in enumerate(versions)])

    assert [name for name, differing in found.items() if differing == ["version"]] == expected


def test_a_lost_worker_neither_votes_nor_differs():
    """Of a rollout, the old workers are gone."""
    found = differences([worker(0), worker(1, version="1", is_living=False), worker(2, version="1", is_living=False)])

    assert found == {"w0": [], "w1": [], "w2": []}


LMS = '{"fast": {"model": "openai/gpt-4o-mini", "api_key": "%s"}}'


@pytest.mark.parametrize(
    "changes",
    [
        {"lm_model": "openai/gpt-4o"},
        {"lm_api_key": "sk-other"},
        {"lms": LMS % "sk-other"},
        {"max_attempts": "3"},
        {"tenancy": "user_id"},
        {"trusted_users": "a"},
        {"delays_seconds": "1,2"},
        {"dynamic_signatures_rollout": "10"},
    ],
)
def test_what_should_agree_changes_the_hash(changes):
    """Keys too, though nobody can read them from it."""
    base = {"lm_model": "openai/gpt-4o-mini", "lm_api_key": "sk-one", "lms": LMS % "sk-one"}

    assert settings_hash(make_settings(**base)) != settings_hash(make_settings(**base | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"concurrency": "2", "create_concurrency": "2", "control_concurrency": "2", "cache_size": "9"},
        {"amqp_url": "amqp://a:b@elsewhere/", "store_url": "postgresql://a:b@elsewhere/d"},
        {"http_host": "0.0.0.0", "http_port": "8080", "log_level": "debug", "log_format": "json"},
        {"drain_seconds": "600"},
        {"trusted_users": "b,a"},
    ],
)
def test_what_a_worker_may_have_for_itself_does_not(changes):
    """Addresses, sizes, the log; and the order of what has none."""
    assert settings_hash(make_settings(trusted_users="a,b")) == settings_hash(
        make_settings(**{"trusted_users": "a,b"} | changes)
    )


def test_every_exception_is_a_setting():
    """So that one that is renamed does not join in unseen."""
    assert set(Settings.model_fields) >= OF_ONE_WORKER
