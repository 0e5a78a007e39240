defmodule DSPexWorker.Signature.Presence do
  @moduledoc false
  # Whether a value may be absent, its default, its description; alike for fields and members of nested objects.

  alias DSPexWorker.Signature.{Bounds, Constraints, Place, Values}

  @keys ~w(required optional)

  @doc """
  Whether a value must be there, as far as `required` and `optional` tell.

  Senders write `required: true` on every field and `optional: true` into its constraints, so these two contradict each
  other only where they stand side by side.
  """
  def required?(beside, given, place) do
    told = agreed(for key <- @keys, do: truth(beside[key], key, Place.at(place, key)))

    within =
      agreed(
        for key <- @keys do
          with {sent, value, place} <- Constraints.agreed(given, key), do: truth(value, key, place, sent)
        end
      )

    told_twice? = beside["required"] != nil and Map.has_key?(given.words, "required")

    if :contradiction in [told, within] or (told_twice? and told != within) do
      Place.fault(place, :invalid_constraint, "`required` and `optional` contradict each other")
    end

    told != false and within != false
  end

  @doc "`{:value, default}` as the type has it, or `:none`; a null for a type that is not nullable is none."
  def default(given, type) do
    case Constraints.agreed(given, "default") do
      nil -> :none
      {_key, nil, _place} when not type.nullable -> :none
      {_key, value, place} -> checked(value, type, place)
    end
  end

  @doc "The value's own description, else the one among its constraints."
  def description(own, given) do
    for {_key, value, place} <- Map.get(given.words, "description", []), not is_binary(value) do
      Place.fault(place, :invalid_constraint, "`description` must be a string")
    end

    with "" <- own, {_key, text, _place} <- Constraints.agreed(given, "description") do
      String.trim(text)
    else
      nil -> ""
      own -> own
    end
  end

  defp checked(value, type, place) do
    Bounds.require_short(value, place)

    case Values.check(value, type) do
      {:ok, taken} ->
        {:value, taken}

      {:error, [{_at, phrase} | _]} ->
        Place.fault(place, :invalid_constraint, "the default does not fit the type: it #{phrase}")
    end
  end

  defp agreed(told) do
    case told |> Enum.reject(&is_nil/1) |> Enum.uniq() do
      [] -> nil
      [one] -> one
      _both -> :contradiction
    end
  end

  defp truth(value, key, place, sent \\ nil)
  defp truth(nil, _key, _place, _sent), do: nil
  defp truth(value, "required", _place, _sent) when is_boolean(value), do: value
  defp truth(value, "optional", _place, _sent) when is_boolean(value), do: not value

  defp truth(_value, key, place, sent) do
    Place.fault(place, :invalid_constraint, "#{Place.quoted(sent || key)} must be true or false")
  end
end
