defmodule DSPexWorker.Signature.Constraints do
  @moduledoc """
  Reads constraints in all their spellings and sorts them by meaning.

  | meaning | keys |
  |---|---|
  | presence | `required` `optional` `default` |
  | range | `minimum min_value ge gte gteq`, `maximum max_value le lte lteq`, `gt exclusive_minimum`, `lt exclusive_maximum`, `multiple_of` |
  | by type | `min` `max`: range for numbers, length for strings, items for lists, entries for maps |
  | length | `min_length max_length length`, `min_items max_items unique_items dimensions`, `min_properties max_properties` |
  | text | `pattern`, `format` (a name, or `/regex/`) |
  | choice | `enum one_of choices in` |
  | words | `description`, in the DSL also `desc` |

  camelCase names are aliases. One meaning given twice alike is one; given twice differently it is a fault.
  """

  alias DSPexWorker.Signature.{Formats, Place, Type}

  @aliases %{
    "minimum" => ~w(min_value ge gte gteq),
    "maximum" => ~w(max_value le lte lteq),
    "exclusive_minimum" => ~w(gt),
    "exclusive_maximum" => ~w(lt),
    "choices" => ~w(enum one_of in)
  }
  @own ~w(minimum maximum exclusive_minimum exclusive_maximum choices min max min_length max_length length min_items
          max_items dimensions unique_items min_properties max_properties multiple_of pattern format required optional
          default description)
  @meanings Map.merge(
              Map.new(@own, &{&1, &1}),
              for({meaning, keys} <- @aliases, key <- keys, into: %{}, do: {key, meaning})
            )
  @words ~w(required optional default description)
  @annotations ["title", "$schema", "$id", "$comment", "example", "examples"]
  # They say what the type is, so they must not be taken for something unknown that has no effect.
  @misplaced ~w(properties items additional_properties)

  @doc """
  What a constraint's key means, or nil if it is unknown.

      iex> DSPexWorker.Signature.Constraints.meaning("minLength")
      "min_length"

      iex> DSPexWorker.Signature.Constraints.meaning("one_of")
      "choices"
  """
  @spec meaning(String.t()) :: String.t() | nil
  def meaning(key), do: @meanings[key] || @meanings[snake(key)]

  @doc "All keys with a meaning."
  @spec keys() :: [String.t()]
  def keys, do: Map.keys(@meanings)

  @doc false
  # Pairs of {key, value, place}, from an object or a list of pairs.
  def read_pairs(nil, _place), do: []

  def read_pairs(%{} = constraints, place) do
    Place.require_constraints(place, map_size(constraints))
    for {key, value} <- constraints, do: {key, value, Place.at(place, key)}
  end

  def read_pairs(constraints, place) when is_list(constraints) do
    Place.require_constraints(place, length(constraints))
    Enum.map(constraints, &read_pair(&1, place))
  end

  def read_pairs(_other, place), do: shape_fault(place)

  defp read_pair([key, value], place) when is_binary(key), do: {key, value, Place.at(place, key)}
  defp read_pair(_other, place), do: shape_fault(place)

  defp shape_fault(place) do
    Place.fault(place, :invalid_constraint, "constraints must be an object or a list of pairs")
  end

  @doc false
  # %{bounds: [{meaning, pair}], words: %{word => [pair]}, unknown: %{key => value}}
  def sort(pairs) do
    given = Enum.reduce(pairs, %{bounds: [], words: %{}, unknown: %{}}, &sort_pair/2)
    %{given | bounds: Enum.reverse(given.bounds)}
  end

  defp sort_pair({key, value, place} = pair, given) do
    {meaning, pair} = if meaning(key) == "format", do: read_format(pair), else: {meaning(key), pair}

    cond do
      meaning in @words -> update_in(given.words[meaning], &((&1 || []) ++ [pair]))
      meaning != nil -> %{given | bounds: [{meaning, pair} | given.bounds]}
      key in @annotations -> given
      true -> keep_unknown(key, value, place, given)
    end
  end

  defp read_format({key, name, place}) when is_binary(name) do
    normal = name |> String.downcase() |> String.replace("_", "-")

    cond do
      String.length(name) > 2 and String.starts_with?(name, "/") and String.ends_with?(name, "/") ->
        {"pattern", {key, String.slice(name, 1..-2//1), place}}

      normal in Formats.known() ->
        {"format", {key, normal, place}}

      true ->
        {nil, {key, name, place}}
    end
  end

  defp read_format({key, _name, place}) do
    Place.fault(place, :invalid_constraint, "#{Place.quoted(key)} must be a string")
  end

  defp keep_unknown(key, value, place, given) do
    if snake(key) in @misplaced do
      Place.fault(place, :invalid_constraint, "#{Place.quoted(key)} stands in the type, not in its constraints")
    end

    Place.warn(place, "unknown #{named(key, value)} is kept and not enforced#{nearest(key)}")
    put_in(given.unknown[key], value)
  end

  defp named(key, value) do
    if snake(key) == "format", do: "format #{Place.quoted(value)}", else: "constraint #{Place.quoted(key)}"
  end

  defp nearest(key) do
    word = key |> snake() |> String.slice(0, 40)
    near = Enum.max_by(keys(), &String.jaro_distance(word, &1))
    if near != word and String.jaro_distance(word, near) >= 0.85, do: "; did you mean `#{near}`?", else: ""
  end

  @doc false
  # The pair that gives a word such as `default`, or nil.
  def agreed(given, word) do
    case given.words[word] do
      nil ->
        nil

      [{_key, value, _place} = first | others] ->
        for {_key, other, place} <- others, Type.identity(other) != Type.identity(value) do
          Place.fault(place, :invalid_constraint, "#{Place.quoted(word)} is given twice, differently")
        end

        first
    end
  end

  defp snake(key), do: ~r/(?<=[a-z])(?=[A-Z])/ |> Regex.replace(key, "_") |> String.downcase()
end
