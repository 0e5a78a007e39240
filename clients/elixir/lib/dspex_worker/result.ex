defmodule DSPexWorker.Result do
  @moduledoc """
  Everything that a run gave, for calls with `full: true`.

  | field | meaning |
  |---|---|
  | `outputs` | what the call returns without `full: true` |
  | `usage` | `%{lm_calls: …, prompt_tokens: …, completion_tokens: …, cost_usd: …}`; `cost_usd` is `nil` where it is not known |
  | `warnings` | what the worker noticed and went on with: texts, or maps with string keys |
  | `dynamic` | whether the declared signature ran |
  | `fallback_used` `fallback_reason` | whether question and answer ran in its place, and why |
  | `attempts` | runs that reached the LM |
  | `execution_time` | seconds |
  | `program_id` `program_version` | `nil` for a one-message prediction |
  | `signature_fingerprint` | of the signature |
  | `message_id` | of the job: the key for `DSPexWorker.get_result/3`, or `nil` |
  | `generation` | which run of the job this is, from 0, or `nil` where the worker does not say |
  | `stored_ms` | when the result was stored, in Unix milliseconds, if it is an earlier run's that is repeated; `nil` if it is fresh |
  | `raw` | the reply's whole `result`, with string keys |
  """

  # Everything is in it once more, and what is as it mostly is need not be shown.
  @derive {Inspect,
           except: [:raw],
           optional:
             ~w(warnings dynamic fallback_used fallback_reason execution_time program_id program_version message_id)a ++
               ~w(generation stored_ms signature_fingerprint)a}
  defstruct outputs: %{},
            usage: %{lm_calls: 0, prompt_tokens: 0, completion_tokens: 0, cost_usd: nil},
            warnings: [],
            dynamic: true,
            fallback_used: false,
            fallback_reason: nil,
            attempts: 0,
            execution_time: nil,
            program_id: nil,
            program_version: nil,
            signature_fingerprint: nil,
            message_id: nil,
            generation: nil,
            stored_ms: nil,
            raw: %{}

  @type t :: %__MODULE__{
          outputs: map,
          usage: %{
            lm_calls: non_neg_integer,
            prompt_tokens: non_neg_integer,
            completion_tokens: non_neg_integer,
            cost_usd: number | nil
          },
          warnings: [String.t() | map],
          dynamic: boolean,
          fallback_used: boolean,
          fallback_reason: String.t() | nil,
          attempts: non_neg_integer,
          execution_time: number | nil,
          program_id: String.t() | nil,
          program_version: pos_integer | nil,
          signature_fingerprint: String.t() | nil,
          message_id: String.t() | nil,
          generation: non_neg_integer | nil,
          stored_ms: non_neg_integer | nil,
          raw: map
        }

  @doc false
  @spec new(map, map, map) :: t
  def new(raw, outputs, about) do
    %__MODULE__{
      outputs: outputs,
      usage: usage(raw["usage"]),
      warnings: raw["warnings"] || [],
      dynamic: raw["is_dynamic"] == true,
      fallback_used: raw["fallback_used"] == true,
      fallback_reason: raw["fallback_reason"],
      attempts: raw["attempts"] || 0,
      execution_time: raw["execution_time"],
      program_id: raw["program_id"],
      program_version: raw["program_version"],
      signature_fingerprint: raw["signature_fingerprint"],
      message_id: about.message_id,
      generation: about.generation,
      stored_ms: about.stored_ms,
      raw: raw
    }
  end

  defp usage(%{} = usage) do
    %{
      lm_calls: usage["lm_calls"] || 0,
      prompt_tokens: usage["prompt_tokens"] || 0,
      completion_tokens: usage["completion_tokens"] || 0,
      cost_usd: usage["cost_usd"]
    }
  end

  defp usage(_absent), do: %__MODULE__{}.usage
end
