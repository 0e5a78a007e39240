"""Settings: every check, every sentence, names that are wrong, and secrets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from yarl import URL

from tests.support.left_hand import make_settings
from worker.client import Client
from worker.settings import Settings, SettingsError, load


def test_an_empty_environment_is_enough() -> None:
    """Every default nests with the others."""
    settings = load({})

    assert (settings.namespace, settings.lm_model, settings.fallback, settings.http_port) == (
        "dspex",
        "offline",
        "create",
        0,
    )


def test_the_defaults_are_those_of_the_design() -> None:
    """LM 120 s, job 300 s, drain = job + 30, ack 1800 s, age 7200 s, results a day."""
    settings = load({})
    seconds = (settings.lm_timeout_seconds, settings.job_timeout_seconds, settings.drain, settings.ack_timeout_seconds)

    assert seconds == (120, 300, 330, 1_800)
    assert (settings.max_age_seconds, settings.result_ttl_seconds, settings.lease_seconds) == (7_200, 86_400, 10)
    assert settings.delays_ms == (1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000)
    assert (settings.max_attempts, settings.max_lm_calls, settings.max_body_bytes) == (7, 20, 8_388_608)
    assert (settings.concurrency, settings.create_concurrency, settings.control_concurrency) == (32, 4, 16)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("DSPEX_CONCURENCY", "DSPEX_CONCURRENCY"),
        ("DSPEX_STORE", "DSPEX_STORE_URL"),
        ("DSPEX_JOB_TIMEOUT", "DSPEX_JOB_TIMEOUT_SECONDS"),
        ("DSPEX_LM_APIKEY", "DSPEX_LM_API_KEY"),
        ("DSPEX_NAME_SPACE", "DSPEX_NAMESPACE"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_right_one(name: str, nearest: str) -> None:
    """pydantic-settings would let it pass in silence."""
    with pytest.raises(SettingsError) as refused:
        load({name: "1"})

    assert str(refused.value) == f"{name} is not a setting; did you mean {nearest}?"


def test_every_unknown_name_gets_a_line() -> None:
    """All of them in one start."""
    with pytest.raises(SettingsError) as refused:
        load({"DSPEX_CONCURENCY": "1", "DSPEX_XQZ": "1"})

    assert [line.split()[0] for line in str(refused.value).splitlines()] == ["DSPEX_CONCURENCY", "DSPEX_XQZ"]


def test_the_value_of_an_unknown_setting_is_not_shown() -> None:
    """It may be a misspelt key."""
    with pytest.raises(SettingsError) as refused:
        load({"DSPEX_LM_APIKEY": "sk-secret"})

    assert "sk-secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DSPEX_SERVICE_HOST", "10.0.0.1"),
        ("DSPEX_SERVICE_PORT", "80"),
        ("DSPEX_SERVICE_PORT_HTTP", "80"),
        ("DSPEX_WORKER_SERVICE_HOST", "10.0.0.1"),
        ("DSPEX_PORT", "tcp://10.0.0.1:80"),
        ("DSPEX_HTTP_PORT", "tcp://10.0.0.1:80"),
        ("DSPEX_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("DSPEX_PORT_80_TCP_PROTO", "tcp"),
        ("DSPEX_PORT_80_TCP_PORT", "80"),
        ("DSPEX_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("DSPEX_DNS_PORT_53_UDP", "udp://10.0.0.1:53"),
    ],
)
def test_what_kubernetes_injects_is_skipped(name: str, text: str) -> None:
    """A service called ``dspex`` or ``dspex-http`` must not stop the worker."""
    assert load({name: text}) == load({})


def test_a_port_that_is_no_url_is_the_setting() -> None:
    """Kubernetes' variable and ours share a name."""
    assert load({"DSPEX_HTTP_PORT": "8080"}).http_port == 8_080


def test_names_without_the_prefix_are_none_of_ours() -> None:
    """Only ``DSPEX_`` is ours."""
    assert load({"PATH": "/bin", "DSPEXX": "1"}) == load({})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CONCURRENCY", "many"),
        ("CONCURRENCY", "0"),
        ("CONCURRENCY", "1.5"),
        ("CREATE_CONCURRENCY", "0"),
        ("CONTROL_CONCURRENCY", "-1"),
        ("NAMESPACE", "a.b"),
        ("NAMESPACE", "x" * 65),
        ("NAMESPACE", "a b"),
        ("NAMESPACE", "dspex\n"),
        ("LMS", "not json"),
        ("LMS", "[]"),
        ("LMS", '{"fast": {}}'),
        ("LMS", '{"fast": {"model": "m", "modle": "n"}}'),
        ("LMS", '{"fast": {"model": "m", "temperature": 3}}'),
        ("LM_TIMEOUT_SECONDS", "0"),
        ("LM_TIMEOUT_SECONDS", "nan"),
        ("MAX_LM_CALLS", "0"),
        ("JOB_TIMEOUT_SECONDS", "-1"),
        ("MAX_AGE_SECONDS", "0"),
        ("LEASE_SECONDS", "1"),
        ("LEASE_SECONDS", "inf"),
        ("MAX_ATTEMPTS", "0"),
        ("DELAYS_SECONDS", "5,1"),
        ("DELAYS_SECONDS", "1,1"),
        ("DELAYS_SECONDS", "0,1"),
        ("DELAYS_SECONDS", "one"),
        ("DELAYS_SECONDS", "1,inf"),
        ("RESULT_TTL_SECONDS", "inf"),
        ("MAX_BODY_BYTES", "10"),
        ("REPLY_TO_PATTERN", "(["),
        ("FALLBACK", "always"),
        ("DYNAMIC_SIGNATURES", "perhaps"),
        ("DYNAMIC_SIGNATURES_ROLLOUT", "101"),
        ("CACHE_SIZE", "0"),
        ("HTTP_PORT", "70000"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence_that_names_it(name: str, text: str) -> None:
    """One line, the variable first."""
    with pytest.raises(SettingsError) as refused:
        load({f"DSPEX_{name}": text})

    lines = str(refused.value).splitlines()
    assert [line.startswith(f"DSPEX_{name}") for line in lines] == [True] * len(lines)


def test_every_wrong_value_gets_a_line() -> None:
    """All of them in one start."""
    with pytest.raises(SettingsError) as refused:
        load({"DSPEX_CONCURRENCY": "0", "DSPEX_HTTP_PORT": "x"})

    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"lm_timeout_seconds": 300},
            "DSPEX_LM_TIMEOUT_SECONDS (300) must be less than DSPEX_JOB_TIMEOUT_SECONDS (300)",
        ),
        ({"drain_seconds": 300}, "DSPEX_JOB_TIMEOUT_SECONDS (300) must be less than DSPEX_DRAIN_SECONDS (300)"),
        ({"ack_timeout_seconds": 330}, "DSPEX_DRAIN_SECONDS (330) must be less than DSPEX_ACK_TIMEOUT_SECONDS (330)"),
        ({"drain_seconds": 1800}, "DSPEX_DRAIN_SECONDS (1800) must be less than DSPEX_ACK_TIMEOUT_SECONDS (1800)"),
        (
            {"result_ttl_seconds": 7200},
            "DSPEX_RESULT_TTL_SECONDS (7200) must be more than DSPEX_MAX_AGE_SECONDS (7200)",
        ),
    ],
)
def test_times_that_do_not_nest_are_refused(given: dict[str, object], sentence: str) -> None:
    """LM call < job < drain < ack time-out; results live longer than jobs."""
    with pytest.raises(SettingsError) as refused:
        make_settings(**given)

    assert str(refused.value) == sentence


def test_the_drain_follows_the_job_time_out_when_it_is_unset() -> None:
    """Job + 30 seconds."""
    assert make_settings(job_timeout_seconds=200).drain == 230
    assert make_settings(drain_seconds=500).drain == 500


@pytest.mark.parametrize("text", ["1,5,30", "[1, 5, 30]", " 1 , 5 ,30 "])
def test_the_ladder_is_comma_separated(text: str) -> None:
    """As a list or without brackets."""
    assert make_settings(delays_seconds=text).delays_ms == (1_000, 5_000, 30_000)


def test_the_seeds_name_for_the_rollout_is_an_alias() -> None:
    """Ours wins where both are set."""
    assert load({"DYNAMIC_SIG_ROLLOUT": "25"}).dynamic_signatures_rollout == 25
    both = load({"DYNAMIC_SIG_ROLLOUT": "25", "DSPEX_DYNAMIC_SIGNATURES_ROLLOUT": "50"})
    assert both.dynamic_signatures_rollout == 50


def test_three_variables_make_the_alias_default() -> None:
    """And ``DSPEX_LMS`` names more."""
    settings = make_settings(
        lm_model="openai/a",
        lm_api_base="http://127.0.0.1:1",
        lm_api_key="k",
        lms=json.dumps({"fast": {"model": "openai/b", "temperature": 0.2}}),
    )

    profiles = settings.profiles
    assert {alias: profile.model for alias, profile in profiles.items()} == {"default": "openai/a", "fast": "openai/b"}
    assert (profiles["default"].api_base, profiles["fast"].temperature) == ("http://127.0.0.1:1", 0.2)


def test_the_alias_default_has_one_place() -> None:
    """Two places would leave one of them without effect."""
    with pytest.raises(SettingsError, match="DSPEX_LMS may not name `default`: that alias is DSPEX_LM_MODEL"):
        make_settings(lms=json.dumps({"default": {"model": "m"}}))


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    """Broker and store URLs hold passwords, too."""
    settings = make_settings(
        lm_api_key="sk-one",
        lms=json.dumps({"fast": {"model": "m", "api_key": "sk-two"}}),
        amqp_url="amqp://u:sk-three@h/",
        store_url="postgresql://u:sk-four@h/d",
    )
    shown = f"{settings!r} {settings} {settings.model_dump_json()} {settings.model_dump()} {settings.profiles}"

    assert "sk-" not in shown


@pytest.mark.parametrize("lms", ['{"fast": {"model": "m", "api_key": ["sk-secret"]}}', '{"fast": "sk-secret"}'])
def test_a_refusal_never_shows_a_secret(lms: str) -> None:
    """The default error text of pydantic would contain the input."""
    with pytest.raises(SettingsError) as refused:
        make_settings(lms=lms)

    assert "sk-secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_settings_are_frozen() -> None:
    """Nothing is configured behind anybody's back."""
    with pytest.raises(ValueError, match="frozen"):
        load({}).concurrency = 1


def test_the_environment_is_read_by_load_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise names would not be checked."""
    monkeypatch.setenv("DSPEX_CONCURRENCY", "7")

    assert (Settings().concurrency, load().concurrency) == (32, 7)


def test_the_default_store_is_a_file_of_the_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the XDG state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")

    assert make_settings(namespace="team").resolved_store_url == "sqlite:////state/dspex-worker/team.db"
    assert make_settings(store_url="sqlite:///x.db").resolved_store_url == "sqlite:///x.db"


def test_every_setting_says_what_it_is() -> None:
    """The table of docs/SETTINGS.md is made of these."""
    nameless = [name for name, field in Settings.model_fields.items() if not field.description]

    assert nameless == []


def test_an_empty_variable_is_an_unset_one() -> None:
    """Compose files pass on what the host has not set as empty text."""
    assert load({"DSPEX_LM_API_BASE": "", "DSPEX_NAMESPACE": " ", "DSPEX_CONCURRENCY": ""}) == load({})


@pytest.mark.parametrize("delays", ["0.05", "1,2592001"])
def test_steps_that_the_broker_cannot_keep_are_refused(delays: str) -> None:
    """A TTL has at most 32 bits of milliseconds."""
    with pytest.raises(SettingsError, match="DSPEX_DELAYS_SECONDS"):
        load({"DSPEX_DELAYS_SECONDS": delays, "DSPEX_MAX_AGE_SECONDS": "60"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8:5671", "[::1]", "LOCALHOST", ""])
@pytest.mark.parametrize("user", ["guest:guest@", "", ":secret@"])
def test_guest_is_good_enough_on_this_machine(host: str, user: str) -> None:
    """RabbitMQ's own rule; a URL without a user means guest."""
    url = f"amqp://{user}{host}/"

    assert make_settings(amqp_url=url).broker_url == url


@pytest.mark.parametrize("host", ["broker.example", "10.0.0.1", "0.0.0.0", "[2001:db8::1]", "localhost.example"])
@pytest.mark.parametrize("user", ["guest:sk-secret@", "%67uest:sk-secret@", ":sk-secret@", ""])
def test_guest_is_refused_off_this_machine(host: str, user: str) -> None:
    """Every broker has that user, and everybody knows its password."""
    with pytest.raises(SettingsError, match=r"^DSPEX_AMQP_URL: user `guest` is refused.*make_users\.py$") as refused:
        make_settings(amqp_url=f"amqps://{user}{host}/")

    assert "sk-secret" not in str(refused.value)


def test_the_broker_url_carries_the_tls_files(tmp_path: Path) -> None:
    """Where aiormq looks for them at each connect; vhost, password and query stay as they are."""
    files = {name: tmp_path / f"{name} file.pem" for name in ("ca", "cert", "key")}
    for path in files.values():
        path.touch()
    settings = make_settings(
        amqp_url="amqps://u:p%40%2F@h:5671/team%2Fa?heartbeat=3",
        **{f"amqp_{name}_file": path for name, path in files.items()},
    )
    url = URL(settings.broker_url)

    assert (url.scheme, url.password, url.raw_path, url.port) == ("amqps", "p@/", "/team%2Fa", 5671)
    assert dict(url.query) == {
        "heartbeat": "3",
        "cafile": str(files["ca"]),
        "certfile": str(files["cert"]),
        "keyfile": str(files["key"]),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"amqp_ca_file": "/nowhere/ca.pem"}, "DSPEX_AMQP_CA_FILE: there is no file /nowhere/ca.pem"),
        ({"amqp_cert_file": __file__}, "DSPEX_AMQP_CERT_FILE and DSPEX_AMQP_KEY_FILE go together"),
        ({"amqp_ca_file": __file__, "amqp_url": "amqp://u:p@h/"}, "need an amqps:// DSPEX_AMQP_URL"),
    ],
)
def test_tls_that_would_not_protect_is_refused(given: dict[str, str], words: str) -> None:
    """A file that is not there, half a pair, files without TLS."""
    with pytest.raises(SettingsError, match=re.escape(words)):
        make_settings(**{"amqp_url": "amqps://u:p@h/", **given})


UNVERIFIED = pytest.mark.parametrize(
    "query",
    [
        "no_verify_ssl=1",
        "no_verify_ssl=0",
        "no_verify_ssl=",
        "no_verify_ssl",
        "heartbeat=3&NO_VERIFY_SSL=x",
        "no%5fverify-ssl=1",
        "no_verify_ssl=0&no_verify_ssl=1",
    ],
)


@UNVERIFIED
def test_the_certificate_is_always_verified(query: str) -> None:
    """Whatever the parameter's value and spelling: an empty one was taken for a yes."""
    with pytest.raises(SettingsError, match="DSPEX_AMQP_URL: `no_verify_ssl` is refused"):
        make_settings(amqp_url=f"amqps://u:p@h/?{query}")


@UNVERIFIED
def test_the_client_verifies_the_certificate_too(query: str) -> None:
    """It reads no settings."""
    with pytest.raises(ValueError, match="`no_verify_ssl` is refused"):
        Client(f"amqps://u:p@h/?{query}")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("store_url", "postgresql://u:sk-secret@h:notaport/db"),
        ("store_url", "postgresql+asyncpg://u:sk-secret@[::1]:99999/db"),
        ("amqp_url", "amqp://u:sk-secret@h:notaport/"),
        ("amqp_url", "amqp://u:sk-secret/x@h/"),
        ("amqp_url", "amqp://u:sk-secret@[::1/"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused_at_the_start(name: str, url: str) -> None:
    """Not at the first connect, with a traceback; and without a part of it."""
    with pytest.raises(SettingsError, match=rf"^DSPEX_{name.upper()}: cannot be read: its port is a number") as refused:
        make_settings(**{name: url})

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:a/b?c#d:e@h:5432/db", "postgres://h/db", "postgresql:///db?host=/run/pg", "sqlite:///a:b@c:d.db"],
)
def test_a_store_that_the_driver_understands_is_taken(url: str) -> None:
    """Passwords of a store may hold any sign but one."""
    assert make_settings(store_url=url).resolved_store_url == url


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("channel_binding=require", "`channel_binding` is not supported"),
        ("sslpassword=sk-secret", "`sslpassword` is not supported"),
        ("sk-secret", "one of its options is not supported: leave it out; supported are sslmode, "),
        ("sslmode=sk-secret", "`sslmode` must be one of disable, allow, "),
        ("sslrootcert=/ca.pem", "`sslrootcert` needs `sslmode=verify-full`"),
        ("sslmode=prefer&sslcert=/c.pem&sslkey=/c.key", "`sslcert` needs `sslmode=verify-full`"),
        ("sslmode=require&sslcert=/c.pem", "`sslcert` and `sslkey` go together"),
        ("sslmode=require&sslrootcert=system", "`sslrootcert=system` needs `sslmode=verify-full`"),
        ("sslrootcert=system&sslkey=/c.key", "`sslcert` and `sslkey` go together"),
        (f"sslrootcert=system&sslcrl={__file__}", "`sslcrl` does not go with `sslrootcert=system`"),
        ("sslmode=verify-full&sslrootcert=/nowhere/sk-secret", "`sslrootcert` names no file that this user may read"),
        ("pgbouncer=sk-secret", "`pgbouncer` must be true or false"),
        ("connect_timeout=soon", "`connect_timeout` must be a number of seconds"),
    ],
)
def test_an_option_of_the_store_that_would_not_be_heeded_is_refused(query: str, sentence: str) -> None:
    """It is named, if it is a known one; a value never is, nor what may be part of a password."""
    with pytest.raises(SettingsError, match=f"^DSPEX_STORE_URL: {sentence}") as refused:
        make_settings(store_url=f"postgresql://u:p@h/d?{query}")

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "query",
    [
        f"sslmode=verify-full&sslrootcert={__file__}&sslcert={__file__}&sslkey={__file__}&sslcrl={__file__}",
        "pgbouncer=true",
        "sslrootcert=system",
        "ssl=require",
        "connect_timeout=5&application_name=x&options=-csearch_path%3Dfoo&target_session_attrs=read-write",
        "host=a:5432&host=b:5432",
        "host=/run/postgresql&port=5433",
    ],
)
def test_options_of_libpq_are_taken(query: str) -> None:
    """URLs are copied from other programs' settings."""
    assert make_settings(store_url=f"postgresql://u:p@h/d?{query}").store_url is not None


@pytest.mark.parametrize(
    "reply_to",
    ["amq.rabbitmq.reply-to.g1h2AA==.x", "amq.gen-JzTY20BRgKO-HjmUJj0wLg", "amq_0f1e", "team-a.reply.alice.1"],
)
def test_with_tenancy_reply_queues_are_those_made_for_replies(reply_to: str) -> None:
    """Direct reply-to, names that a broker or a library gives, and the namespace's own prefix."""
    pattern = make_settings(tenancy="user_id", namespace="team-a").effective_reply_to_pattern

    assert re.fullmatch(pattern, reply_to)


@pytest.mark.parametrize(
    "reply_to",
    [
        "billing",
        "team-a.execute",
        "team-aXreply.x",
        "team-a.reply",
        "other.reply.x",
        "amq.topic",
        "amq_xyz",
        "xamq.gen-a",
    ],
)
def test_with_tenancy_no_other_queue_is_a_reply_queue(reply_to: str) -> None:
    """A tenant's job must not write into what is not its own."""
    pattern = make_settings(tenancy="user_id", namespace="team-a").effective_reply_to_pattern

    assert not re.fullmatch(pattern, reply_to)


def test_the_operators_own_pattern_wins_over_that_of_tenancy() -> None:
    """And without tenancy any name will do."""
    assert make_settings(tenancy="user_id", reply_to_pattern="r-.*").effective_reply_to_pattern == "r-.*"
    assert make_settings().effective_reply_to_pattern == ""
