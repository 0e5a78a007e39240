defmodule DSPexWorker.Client.Reply do
  @moduledoc false

  # From the body of a reply to a result, and from the result of a run to outputs with the signature's own keys.

  alias DSPexWorker.{Error, Result}
  alias DSPexWorker.Signature.Validator

  @typedoc "Which job a reply is of, which run of it, and when it was stored if it is not a fresh one."
  @type about :: %{message_id: String.t() | nil, generation: non_neg_integer | nil, stored_ms: non_neg_integer | nil}

  @doc "Parses a reply's body."
  @spec document(module, binary) :: {:ok, term} | {:error, Error.t()}
  def document(json, body) do
    with {:error, _reason} <- json.decode(body), do: {:error, Error.new(:invalid_reply, "The reply is not JSON")}
  end

  @doc "What a reply and its headers say about it."
  @spec about(term, map, String.t() | nil) :: about
  def about(document, headers, message_id) do
    stored = headers["x-dspex-stored"] || (is_map(document) && document["stored_ms"])
    %{message_id: message_id, generation: number(headers["x-dspex-generation"]), stored_ms: number(stored)}
  end

  @doc "Takes the `result` out of a reply."
  @spec check(term, map) :: {:ok, map} | {:error, Error.t()}
  def check(%{"success" => true, "result" => %{} = result}, _about), do: {:ok, result}
  def check(%{"success" => false} = reply, about), do: tell({:error, Error.from_reply(reply)}, about)

  def check(other, about) do
    sentence = "The reply is no success with a result, and no error"
    tell({:error, Error.new(:invalid_reply, sentence, details: %{reply: other})}, about)
  end

  @doc "Has an error say which job it is of."
  @spec tell(outcome, map) :: outcome when outcome: {:ok, term} | {:error, Error.t()}
  def tell({:error, %Error{} = error}, about), do: {:error, Map.merge(error, about)}
  def tell(success, _about), do: success

  @doc """
  Reads the result of a run. `run` has the `definition` (or nil: outputs keep their string keys), whether question and
  answer was `asked` for, whether the `full` result is wanted, and what there is to say `about` the reply.
  """
  @spec outputs(map, map) :: {:ok, map | Result.t()} | {:error, Error.t()}
  def outputs(%{"outputs" => %{} = outputs} = raw, run) do
    cond do
      not question_and_answer?(raw, outputs, run.definition) -> declared(raw, outputs, run)
      run.asked -> {:ok, shape(raw, answer(outputs, run.definition), run)}
      true -> {:error, not_asked_for(raw, outputs)}
    end
  end

  def outputs(raw, _run) do
    {:error, Error.new(:invalid_reply, "The reply has no outputs", details: %{reply: raw})}
  end

  @doc "How a run ran, for telemetry."
  @spec type(map) :: :dynamic | :legacy | :fallback
  def type(%{"fallback_used" => true}), do: :fallback
  def type(%{"is_dynamic" => false}), do: :legacy
  def type(_raw), do: :dynamic

  defp question_and_answer?(%{"fallback_used" => true}, _outputs, _definition), do: true
  defp question_and_answer?(_raw, _outputs, nil), do: false

  defp question_and_answer?(raw, outputs, definition) do
    raw["is_dynamic"] == false and not Enum.all?(definition.outputs, &is_map_key(outputs, &1.name))
  end

  defp declared(raw, outputs, %{definition: nil} = run), do: {:ok, shape(raw, outputs, run)}

  defp declared(raw, outputs, run) do
    {declared, more} = Map.split(outputs, Enum.map(run.definition.outputs, & &1.name))

    case Validator.validate_outputs(run.definition, declared) do
      {:ok, valid} -> {:ok, shape(raw, Map.merge(reasoning(more, run.definition), valid), run)}
      {:error, error} -> {:error, mismatch(error, outputs, raw)}
    end
  end

  # `include_reasoning` adds one output that the signature does not have.
  defp reasoning(%{"_reasoning" => text}, definition), do: %{key("_reasoning", :_reasoning, definition) => text}
  defp reasoning(more, _definition), do: more

  defp answer(%{"answer" => answer}, definition), do: %{key("answer", :answer, definition) => answer}
  defp answer(outputs, _definition), do: outputs

  defp key(_text, atom, %{outputs: [%{key: key} | _rest]}) when is_atom(key), do: atom
  defp key(text, _atom, _definition), do: text

  defp shape(raw, outputs, %{full: true} = run), do: Result.new(raw, outputs, run)
  defp shape(_raw, outputs, _run), do: outputs

  defp mismatch(error, outputs, raw) do
    Error.new(:invalid_reply, "The outputs are not what the signature declares: #{error.message}",
      problems: error.problems,
      field: error.field,
      attempts: raw["attempts"] || 0,
      details: %{outputs: outputs}
    )
  end

  defp number(value) when is_integer(value), do: value
  defp number(_other), do: nil

  defp not_asked_for(raw, outputs) do
    reason = raw["fallback_reason"]

    Error.new(:fallback, "Question and answer ran in place of the signature: #{reason || "dynamic signatures are off"}",
      attempts: raw["attempts"] || 0,
      details: %{answer: outputs["answer"], reason: reason, result: raw}
    )
  end
end
