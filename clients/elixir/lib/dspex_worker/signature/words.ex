defmodule DSPexWorker.Signature.Words do
  @moduledoc false
  # The words that name types, and what each one means with and without arguments.

  alias DSPexWorker.Signature.{Place, Type}

  @lists ~w(list array)
  @dicts ~w(dict map object)
  @nulls ~w(null nil none nonetype)
  @tuple_heads ~w(list array dict map union optional)
  @kinds %{
    string: ~w(string str text atom),
    integer: ~w(integer int),
    float: ~w(float number double),
    boolean: ~w(boolean bool),
    any: ~w(any)
  }
  @by_word for {kind, words} <- @kinds, word <- words, into: %{}, do: {word, kind}
  @made %{
    "probability" => :probability,
    "confidence_score" => :probability,
    "embedding" => :embedding,
    "reasoning_chain" => :reasoning_chain
  }
  @accepted Map.keys(@by_word) ++ Map.keys(@made) ++ @nulls ++ @lists ++ @dicts ++ ~w(union optional)
  @common ~w(string integer float boolean any list<string>) ++ ["dict<string, any>", "string?"]

  def tuple_heads, do: @tuple_heads

  @doc "Every word that stands for a type."
  def accepted, do: @accepted

  @doc "The word as it is compared: in small letters, without the colon of an atom."
  def bare(word), do: word |> String.downcase() |> String.trim_leading(":")

  def null_word?(nil), do: true
  def null_word?(word) when is_binary(word), do: bare(word) in @nulls
  def null_word?(_other), do: false

  @doc "The type that a word stands for; `arguments` are the types in its brackets, or nil."
  def from_word(word, arguments, place) do
    known = String.downcase(word)

    cond do
      arguments == nil and plain(known) -> plain(known)
      known in @lists -> list(arguments, place)
      known in @dicts -> dict(arguments, place)
      known in ~w(union optional) and arguments not in [nil, []] -> alternative(known, arguments, place)
      true -> Place.fault(place, :unknown_type, reason(word, known))
    end
  end

  def require_value(type, place) do
    if Type.null?(type) do
      reason = "null can stand only inside a union, as in `string | null` or `string?`"
      Place.fault(place, :unknown_type, reason)
    end

    type
  end

  @doc "The end of a sentence that names the accepted spelling nearest to a word, or the common ones."
  def nearest(word) do
    word = word |> String.slice(0, 40) |> String.downcase()
    near = Enum.max_by(@accepted, &String.jaro_distance(word, &1))

    if String.jaro_distance(word, near) >= 0.75 do
      "did you mean `#{near}`?"
    else
      "accepted are #{Enum.map_join(@common, ", ", &"`#{&1}`")} and more"
    end
  end

  defp plain(word) when is_map_key(@by_word, word), do: Type.plain(@by_word[word])
  defp plain(word) when word in @nulls, do: Type.null()
  defp plain(word) when is_map_key(@made, word), do: made(@made[word])
  defp plain(_word), do: nil

  defp made(:probability), do: Type.probability()
  defp made(:embedding), do: Type.list_of(Type.plain(:float))
  defp made(:reasoning_chain), do: Type.list_of(Type.plain(:string))

  defp list(nil, _place), do: Type.list_of(Type.plain(:any))
  defp list([items], place), do: Type.list_of(require_value(items, place))
  defp list(_other, place), do: Place.fault(place, :unknown_type, "a list has one item type, as in `list<string>`")

  defp dict(nil, _place), do: Type.dict_of(Type.plain(:string), Type.plain(:any))

  defp dict([%Type{kind: kind, nullable: false} = key, values], place) when kind in [:string, :integer] do
    Type.dict_of(key, require_value(values, place))
  end

  defp dict([_key, _values], place) do
    reason = "a dict's keys are strings, integers or a choice, as in `dict<string, any>`"
    Place.fault(place, :unknown_type, reason)
  end

  defp dict(_other, place) do
    Place.fault(place, :unknown_type, "a dict has a key type and a value type, as in `dict<string, integer>`")
  end

  defp alternative("union", members, _place), do: Type.union_of(members)
  defp alternative("optional", [type], _place), do: Type.nullable_of(type)

  defp alternative("optional", _other, place) do
    Place.fault(place, :unknown_type, "optional has one type, as in `optional<string>`")
  end

  defp reason(word, known) do
    cond do
      plain(known) ->
        "type #{Place.quoted(word)} takes no arguments"

      known in ~w(union optional) ->
        "type #{Place.quoted(word)} needs arguments, as in `union<string | integer>` or `optional<string>`"

      true ->
        "unknown type #{Place.quoted(word)}; #{nearest(word)}"
    end
  end
end
