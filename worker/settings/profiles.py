"""What an operator configures of one LM."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

StructuredOutputs = Literal["auto", "strict", "full", "false"]


class LMProfile(BaseModel):
    """One LM that an operator configured, under an alias.

    Attributes:
        model: DSPy's model string, e.g. ``openai/gpt-4o-mini``, or ``offline``.
        api_base: Base URL of the provider's API, or None for the provider's own.
        api_key: Key, or None to let the provider's own environment variable decide.
        temperature: Default sampling temperature, or None for the provider's.
        max_tokens: Default limit of answer tokens, or None for the provider's.
        structured_outputs: Response schema sent with each call: ``strict`` for OpenAI, ``full`` for llama.cpp, vLLM
            and Ollama, ``false`` for none, ``auto`` for strict where DSPy knows that the model takes one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    api_base: str | None = None
    api_key: SecretStr | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1)
    structured_outputs: StructuredOutputs = "auto"

    @field_validator("structured_outputs", mode="before")
    @classmethod
    def _read_bool(cls, value: object) -> object:
        return "false" if value is False else value
