defmodule DSPexWorker.Error do
  @moduledoc """
  What a call can fail with: the errors of the wire contract, and those that only a client knows.

  Every function that returns `{:error, error}` returns this struct; the bang versions raise it.

  | field | meaning |
  |---|---|
  | `code` | an atom out of `codes/0` |
  | `message` | one sentence, which names all of a few problems; for errors of a worker, the reply's `error` string |
  | `recoverable` | whether the same call may succeed later without a change |
  | `retry_after` | milliseconds that the LM's provider asked to wait, or `nil` |
  | `problems` | everything that is wrong, each `%{path: json_pointer, problem: phrase}` |
  | `field` | the field or argument concerned, or `nil` |
  | `attempts` | runs that reached the LM |
  | `message_id` | of the job, the key for `DSPexWorker.get_result/3`; `nil` where it was refused before it was sent |
  | `generation` | which run of the job failed, from 0, for `:rerun_of`; `nil` where no worker says so |
  | `stored_ms` | when the error was stored, in Unix milliseconds, if it is an earlier run's that is repeated; `nil` if it is fresh |
  | `details` | more, for some codes: see below |

  Codes of the client itself:

  | code | meaning | `details` |
  |---|---|---|
  | `:no_worker` | the queue does not exist, or nobody consumes it | `queue` |
  | `:timeout` | no reply in time, or, from a worker, the job ran longer than it may | `message_id` |
  | `:body_too_large` | the request is larger than the client, the broker or the workers take | |
  | `:fallback` | question and answer ran in place of the signature, and nobody asked for it | `answer`, `reason`, `result` |
  | `:connection` | the broker cannot be reached, or does not let the client in | `reason`, a text; `message_id` |
  | `:refused` | the broker did not take the message: its queue is full (`recoverable`), or a right is missing | |
  | `:unroutable` | the broker gave the message back for another reason than a missing queue | |
  | `:invalid_reply` | the reply is not what the contract or the signature says | `reply` or `outputs` |
  | `:closed` | the client is not running, or was stopped before the reply came | `message_id` |
  | `:unknown` | a worker sent a code that this version does not know | `code`, the text |

  Both kinds of time-out are `:timeout`; one that the client noticed has a `message_id` in `details`. Asked again under
  that id, the job is not paid for twice.
  """

  @wire_codes ~w(
    invalid_json body_too_large invalid_request unknown_command not_permitted dynamic_signatures_off
    invalid_signature invalid_field_name unknown_type invalid_constraint unsupported_program_type
    invalid_inputs program_not_found program_exists idempotency_conflict reply_to_not_allowed
    expired cancelled caller_gone
    lm_rate_limited lm_timeout lm_unavailable lm_auth lm_invalid_request context_window_exceeded lm_not_configured
    output_invalid timeout budget_exceeded worker_lost internal
  )a

  @client_codes ~w(no_worker timeout fallback connection refused unroutable invalid_reply closed unknown)a

  @recoverable ~w(lm_rate_limited lm_timeout lm_unavailable lm_auth no_worker connection refused closed)a

  @by_text Map.new(@wire_codes, &{Atom.to_string(&1), &1})

  @max_sentences 5
  @max_length 1_000

  # What is as it mostly is, is not shown.
  @derive {Inspect, optional: ~w(retry_after problems field attempts message_id generation stored_ms details)a}
  defexception code: :unknown,
               message: "",
               recoverable: false,
               retry_after: nil,
               problems: [],
               field: nil,
               attempts: 0,
               message_id: nil,
               generation: nil,
               stored_ms: nil,
               details: %{}

  @typedoc "A place, as JSON pointer into the call's `args`, and what is wrong there."
  @type problem :: %{path: String.t(), problem: String.t()}

  @typedoc "One of `codes/0`."
  @type code :: atom

  @type t :: %__MODULE__{
          code: code,
          message: String.t(),
          recoverable: boolean,
          retry_after: non_neg_integer | nil,
          problems: [problem],
          field: String.t() | nil,
          attempts: non_neg_integer,
          message_id: String.t() | nil,
          generation: non_neg_integer | nil,
          stored_ms: non_neg_integer | nil,
          details: map
        }

  @doc "All codes: those of the wire contract first, then the client's own."
  @spec codes() :: [code, ...]
  def codes, do: Enum.uniq(@wire_codes ++ @client_codes)

  @doc """
  Makes an error. `recoverable` follows from the code unless it is given. Raises `ArgumentError` for a code that is none.

      iex> DSPexWorker.Error.new(:no_worker, "No worker consumes dspex.execute").recoverable
      true

      iex> error = DSPexWorker.Error.new(:invalid_inputs, "Missing required field: text", field: "text")
      iex> {error.code, error.field, error.recoverable}
      {:invalid_inputs, "text", false}
  """
  @spec new(code, String.t(), keyword) :: t
  def new(code, message, fields \\ [])

  def new(code, message, fields) when code in unquote(Enum.uniq(@wire_codes ++ @client_codes)) do
    struct!(%__MODULE__{code: code, message: message, recoverable: code in @recoverable}, fields)
  end

  def new(other, _message, _fields) do
    raise ArgumentError, "#{inspect(other)} is no code of DSPexWorker.Error#{nearest(other)}; codes/0 has all of them"
  end

  @doc """
  Reads the error of a reply. A code that is not known becomes `:unknown`, with its text in `details`.

      iex> reply = %{"success" => false, "error" => "Program not found: a", "error_detail" => %{"code" => "program_not_found"}}
      iex> DSPexWorker.Error.from_reply(reply).code
      :program_not_found

      iex> error = DSPexWorker.Error.from_reply(%{"error" => "New", "error_detail" => %{"code" => "brand_new"}})
      iex> {error.code, error.details.code, error.message}
      {:unknown, "brand_new", "New"}
  """
  @spec from_reply(map) :: t
  def from_reply(reply) when is_map(reply) do
    detail = object(reply["error_detail"])
    {code, details} = code(detail["code"])

    %__MODULE__{
      code: code,
      message: text(reply["error"]) || text(detail["message"]) || "",
      recoverable: detail["recoverable"] == true,
      retry_after: count(detail["retry_after"]),
      problems: problems(detail["problems"]),
      field: text(detail["field"]),
      attempts: count(detail["attempts"]) || 0,
      details: details
    }
  end

  @doc false
  # All that is wrong in one sentence: what comes first in full, and how much more there is.
  @spec sentence([String.t(), ...]) :: String.t()
  def sentence([first | more]) do
    {told, rest} = told(more, @max_sentences - 1, @max_length - String.length(first), [])
    rest = if rest == [], do: [], else: ["and #{length(rest)} more"]
    Enum.join([first | told] ++ rest, "; ")
  end

  defp told([one | more] = all, count, room, told) do
    left = room - String.length(one)
    if count > 0 and left > 0, do: told(more, count - 1, left, [one | told]), else: {Enum.reverse(told), all}
  end

  defp told([], _count, _room, told), do: {Enum.reverse(told), []}

  @impl Exception
  def message(%__MODULE__{code: code, message: ""}), do: Atom.to_string(code)
  def message(%__MODULE__{code: code, message: message}), do: "#{code}: #{message}"

  defp nearest(code) when is_atom(code) do
    likeness = &String.jaro_distance(Atom.to_string(&1), Atom.to_string(code))
    likely = Enum.max_by(codes(), likeness)
    if likeness.(likely) > 0.8, do: ", did you mean #{inspect(likely)}?", else: ""
  end

  defp nearest(_other), do: ""

  defp code(text) when is_map_key(@by_text, text), do: {Map.fetch!(@by_text, text), %{}}
  defp code(other), do: {:unknown, %{code: other}}

  defp problems(given) when is_list(given) do
    for %{} = one <- given, do: %{path: text(one["path"]) || "", problem: text(one["problem"]) || ""}
  end

  defp problems(_other), do: []

  defp object(%{} = object), do: object
  defp object(_other), do: %{}

  defp text(value) when is_binary(value), do: value
  defp text(_other), do: nil

  defp count(value) when is_integer(value) and value >= 0, do: value
  defp count(value) when is_float(value) and value >= 0, do: ceil(value)
  defp count(_other), do: nil
end
