"""All settings, with their defaults and what must hold among them.

See Also:
    docs/SETTINGS.md: the table of all settings, which a test compares with this class.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from yarl import URL

from worker.settings.names import PREFIX
from worker.settings.profiles import LMProfile, StructuredOutputs
from worker.urls import check_broker_url, check_store_url

# RabbitMQ takes a TTL of at most 2**32 - 1 milliseconds.
_LONGEST_DELAY_SECONDS = 30 * 86_400
_NAMESPACE = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class Settings(BaseSettings):
    """All settings of a worker; each field is the variable ``DSPEX_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    amqp_url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672/"), description="RabbitMQ, `amqp://` or `amqps://`"
    )
    store_url: SecretStr | None = Field(
        default=None,
        description="`sqlite:///path` or `postgresql://…`; default: a SQLite file in the user's state folder",
    )
    amqp_ca_file: Path | None = Field(
        default=None, description="PEM file of the CAs trusted for `amqps://`; default: the system's"
    )
    amqp_cert_file: Path | None = Field(default=None, description="PEM file of the worker's own certificate")
    amqp_key_file: Path | None = Field(default=None, description="PEM file of that certificate's key")
    namespace: str = Field(default="dspex", pattern=_NAMESPACE, description="prefix of every queue and exchange")
    concurrency: int = Field(default=32, ge=1, le=10_000, description="execute jobs in flight")
    create_concurrency: int = Field(default=4, ge=1, le=1_000, description="create jobs in flight")
    control_concurrency: int = Field(default=16, ge=1, le=1_000, description="control jobs in flight")

    lm_model: str = Field(
        default="offline", min_length=1, description="model of the alias `default`; `offline` is the stand-in"
    )
    lm_api_base: str | None = Field(default=None, description="API base URL of the alias `default`")
    lm_api_key: SecretStr | None = Field(default=None, description="API key of the alias `default`")
    lm_structured_outputs: StructuredOutputs = Field(
        default="auto",
        description="response schema for the alias `default`: `strict` (OpenAI), `full` (llama.cpp, vLLM, Ollama), "
        "`false`; `auto`: strict where DSPy knows that the model takes one",
    )
    lms: Annotated[dict[str, LMProfile], NoDecode] = Field(
        default_factory=dict,
        description='more aliases, JSON: `{"fast": {"model": "…", "api_base": "…", "api_key": "…"}}`',
    )
    lm_timeout_seconds: float = Field(default=120, gt=0, description="time limit of one LM call")
    max_repairs: int = Field(
        default=2, ge=0, description="times a run asks the LM again after an invalid answer, within the job's LM calls"
    )
    max_lm_calls: int = Field(default=20, ge=1, description="LM calls a job may make, over all deliveries")

    job_timeout_seconds: float = Field(default=300, gt=0, description="time limit of one run of a job")
    max_age_seconds: float = Field(default=7_200, gt=0, description="maximum age of a job, from its first delivery")
    drain_seconds: float | None = Field(
        default=None, gt=0, description="time for running jobs to finish after SIGTERM; default: job timeout + 30"
    )
    ack_timeout_seconds: float = Field(
        default=1_800, gt=0, description="the broker's `consumer_timeout`, which cannot be read over AMQP"
    )
    lease_seconds: float = Field(
        default=10, ge=2, description="seconds without a heartbeat before a worker is presumed dead"
    )
    max_stops: int = Field(
        default=10,
        ge=1,
        le=40,
        description="workers that the platform stops and then kills with a job in hand, before the job is dead-lettered",
    )
    max_attempts: int = Field(default=7, ge=1, description="runs that reached the LM before a job is dead-lettered")
    delays_seconds: Annotated[tuple[float, ...], NoDecode] = Field(
        default=(1, 5, 30, 120, 600, 3_600), description="steps of the delay ladder, ascending, comma-separated"
    )
    result_ttl_seconds: float = Field(default=86_400, gt=0, description="how long results are kept")

    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1_024, description="largest request body")
    reply_to_pattern: str = Field(default="", description="regular expression that `reply_to` must match in full")
    tenancy: Literal["off", "user_id"] = Field(
        default="off",
        description="`user_id`: programs, results and cancels belong to the publishing broker user, and jobs without "
        "one are refused",
    )
    when_caller_gone: Literal["skip", "run"] | None = Field(
        default=None,
        description="jobs whose reply queue is gone when they start: `skip` or `run`; unset: `skip` for direct "
        "reply-to, else `run`",
    )
    store_hold_seconds: float = Field(
        default=60, gt=0, description="how long deliveries are held while the store is down; then they are requeued"
    )
    trusted_users: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="broker users whose internal headers count, comma-separated"
    )

    fallback: Literal["never", "create", "execute"] = Field(
        default="create",
        description="`fallback` of jobs that do not set it: when question and answer may replace a declared signature",
    )
    dynamic_signatures: bool = Field(default=True, description="whether declared signatures are used")
    dynamic_signatures_rollout: int = Field(
        default=100,
        ge=0,
        le=100,
        description="percentage of signatures that are used as declared; alias `DYNAMIC_SIG_ROLLOUT`",
    )

    allow_reset: bool = Field(default=False, description="whether `cleanup` and `reset_state` may delete all programs")
    cache_size: int = Field(default=2_048, ge=1, description="signatures, and programs, kept in memory")
    http_host: str = Field(default="127.0.0.1", description="address of the health and metrics port")
    http_port: int = Field(default=0, ge=0, le=65_535, description="health and metrics port; 0 is off")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="minimum level that is logged"
    )
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="`auto`: console on a terminal, else JSON lines"
    )

    @classmethod
    def settings_customise_sources(  # noqa: PLR0917
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take values from ``load`` only: it reads the environment, after a look at the names."""
        return (init_settings,)

    @field_validator("lms", mode="before")
    @classmethod
    def _read_lms(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("delays_seconds", "trusted_users", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.strip("[] ").split(",") if part.strip())

    @field_validator("reply_to_pattern")
    @classmethod
    def _compile(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return value

    @field_validator("amqp_url")
    @classmethod
    def _is_brokers(cls, value: SecretStr) -> SecretStr:
        check_broker_url(value.get_secret_value())
        return value

    @field_validator("store_url")
    @classmethod
    def _is_stores(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_store_url(value.get_secret_value())
        return value

    @field_validator("amqp_ca_file", "amqp_cert_file", "amqp_key_file")
    @classmethod
    def _is_readable(cls, value: Path | None) -> Path | None:
        if value is not None and not os.access(value, os.R_OK):
            raise ValueError(f"there is no file {value} that this user may read")
        return value

    @field_validator("delays_seconds")
    @classmethod
    def _ascend(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        is_in_range = all(0.1 <= step <= _LONGEST_DELAY_SECONDS for step in value)
        if not value or not is_in_range or list(value) != sorted(set(value)):
            raise ValueError("needs ascending steps of 0.1 seconds to 30 days, e.g. 1,5,30")
        return value

    @model_validator(mode="after")
    def _nest(self) -> Self:
        chain = [
            ("LM_TIMEOUT_SECONDS", self.lm_timeout_seconds),
            ("JOB_TIMEOUT_SECONDS", self.job_timeout_seconds),
            ("DRAIN_SECONDS", self.drain),
            ("ACK_TIMEOUT_SECONDS", self.ack_timeout_seconds),
        ]
        for (inner, low), (outer, high) in itertools.pairwise(chain):
            if low >= high:
                raise ValueError(f"{PREFIX}{inner} ({low:g}) must be less than {PREFIX}{outer} ({high:g})")
        if self.result_ttl_seconds <= self.max_age_seconds:
            raise ValueError(
                f"{PREFIX}RESULT_TTL_SECONDS ({self.result_ttl_seconds:g}) must be more than "
                f"{PREFIX}MAX_AGE_SECONDS ({self.max_age_seconds:g})"
            )
        if (self.amqp_cert_file is None) != (self.amqp_key_file is None):
            raise ValueError(f"{PREFIX}AMQP_CERT_FILE and {PREFIX}AMQP_KEY_FILE go together")
        if self._tls_files and not self.amqp_url.get_secret_value().startswith("amqps"):
            raise ValueError(f"{PREFIX}AMQP_CA_FILE and {PREFIX}AMQP_CERT_FILE need an amqps:// {PREFIX}AMQP_URL")
        if "default" in self.lms:
            raise ValueError(f"{PREFIX}LMS may not name `default`: that alias is {PREFIX}LM_MODEL")
        return self

    @property
    def broker_url(self) -> str:
        """The broker's URL with the TLS files in its query, where aiormq looks for them at every connect.

        So a certificate that was renewed in its file is used without a restart, and one text is all that a
        connection needs. It holds the password: `worker.amqp.connection.mask_url` before it is shown.
        """
        address = URL(self.amqp_url.get_secret_value())
        return str(address.update_query(self._tls_files)) if self._tls_files else self.amqp_url.get_secret_value()

    @property
    def _tls_files(self) -> dict[str, str]:
        files = {"cafile": self.amqp_ca_file, "certfile": self.amqp_cert_file, "keyfile": self.amqp_key_file}
        return {name: str(path.absolute()) for name, path in files.items() if path is not None}

    @property
    def drain(self) -> float:
        """Seconds that running jobs get on SIGTERM."""
        return self.job_timeout_seconds + 30 if self.drain_seconds is None else self.drain_seconds

    @property
    def delays_ms(self) -> tuple[int, ...]:
        """Steps of the delay ladder in milliseconds, ascending."""
        return tuple(round(step * 1_000) for step in self.delays_seconds)

    @property
    def effective_reply_to_pattern(self) -> str:
        """What ``reply_to`` must match in full; empty for any name.

        Tenants share a broker, so by default a job of one may only name queues that nobody else can guess or that are
        made for replies.
        """
        if self.reply_to_pattern or self.tenancy == "off":
            return self.reply_to_pattern
        return rf"amq\.rabbitmq\.reply-to\..*|amq\.gen-.*|amq_[0-9a-f]+|{re.escape(self.namespace)}\.reply\..*"

    @property
    def operators(self) -> frozenset[str]:
        """Broker users that speak for the operator: the worker's own and the trusted ones."""
        own = unquote(urlsplit(self.amqp_url.get_secret_value()).username or "") or "guest"
        return frozenset((own, *self.trusted_users))

    @property
    def profiles(self) -> dict[str, LMProfile]:
        """Alias → LM profile; ``default`` comes from the ``DSPEX_LM_*`` settings."""
        default = LMProfile(
            model=self.lm_model,
            api_base=self.lm_api_base,
            api_key=self.lm_api_key,
            structured_outputs=self.lm_structured_outputs,
        )
        return {"default": default, **self.lms}

    @property
    def resolved_store_url(self) -> str:
        """The store's URL; by default a SQLite file named after the namespace in the XDG state folder."""
        if self.store_url is not None:
            return self.store_url.get_secret_value()
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return f"sqlite:///{Path(state) / 'dspex-worker' / f'{self.namespace}.db'}"
