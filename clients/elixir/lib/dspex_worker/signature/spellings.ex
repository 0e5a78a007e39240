defmodule DSPexWorker.Signature.Spellings do
  @moduledoc false
  # Reads a type in any of its JSON spellings: text, an encoded tuple, a union's array, a schema object.

  alias DSPexWorker.Signature.{Bounds, Constraints, Grammar, Objects, Place, Presence, Type, Words}

  @structure ["type", "items", "additionalProperties", "anyOf", "oneOf", "properties", "$ref"]
  @tags ~w(list array dict map union optional)
  @max_members 100

  @doc "The type, and the constraints of its outermost schema object, which are not on it yet."
  def open(spelling, place) when is_binary(spelling), do: {Grammar.read_type(spelling, place), []}
  def open(spelling, place) when is_list(spelling), do: {read_array(spelling, place), []}
  def open(%{} = spelling, place) when not is_struct(spelling), do: open_schema(spelling, place)

  def open(spelling, place) do
    Place.fault(place, :unknown_type, "a type is a text, an array or an object, not #{Place.quoted(spelling)}")
  end

  @doc "The type of a nested spelling with all its constraints on it; it may be the null type."
  def read(spelling, place) do
    {type, pairs} = open(spelling, place)
    given = Constraints.sort(pairs)
    for {word, _pairs} <- given.words, do: Place.warn(place, "#{Place.quoted(word)} has no effect inside a type")
    # A list of names without `properties` must not be dropped with a warning.
    Presence.required?(%{}, given, place)
    Bounds.constrain(type, given)
  end

  @doc "The keys of a schema object that say what type it is; with `properties`, a list `required` is one of them."
  def structure_of(schema) do
    if Map.has_key?(schema, "properties") and is_list(schema["required"]) do
      ["required" | @structure]
    else
      @structure
    end
  end

  @doc "The same, whatever the object."
  def structure, do: @structure

  defp read_array([], place), do: Place.fault(place, :unknown_type, "an empty array is no type")

  defp read_array([head | rest] = spelling, place) do
    word = if is_binary(head), do: Words.bare(head), else: ""

    # JSON Schema's ["array", "null"] is no tuple: a list of nothing but null has no use.
    if word not in Words.tuple_heads() or (length(rest) == 1 and Words.null_word?(hd(rest))) do
      spelling |> read_all(place) |> Type.union_of()
    else
      read_tuple(word, rest, place)
    end
  end

  defp read_tuple("union", [members], place) when is_list(members) do
    Words.from_word("union", read_all(members, place), place)
  end

  defp read_tuple(word, [], place), do: Words.from_word(word, nil, place)
  defp read_tuple(word, rest, place), do: Words.from_word(word, read_all(rest, place, 1), place)

  defp read_all(spellings, place, first \\ 0)

  defp read_all(spellings, place, _first) when length(spellings) > @max_members do
    Place.fault(place, :invalid_signature, "more than #{@max_members} types in one array", breaks_limit: true)
  end

  defp read_all(spellings, place, first) do
    for {spelling, index} <- Enum.with_index(spellings, first) do
      if spelling == nil, do: Type.null(), else: read(spelling, Place.inside(place, index))
    end
  end

  defp open_schema(schema, place) do
    if Map.has_key?(schema, "$ref") do
      reason = "`$ref` is not supported; write the type out in its place"
      place |> Place.at("$ref") |> Place.fault(:unknown_type, reason)
    end

    tag = tag(schema)

    {type, pairs} =
      if tag, do: {read_tag(tag, schema[tag], Place.at(place, tag)), []}, else: read_structure(schema, place)

    own = schema |> Map.drop([tag | structure_of(schema)])
    Place.require_constraints(place, map_size(own))
    {type, pairs ++ for({key, value} <- own, do: {key, value, Place.at(place, key)})}
  end

  defp tag(schema) do
    unless Enum.any?(@structure, &Map.has_key?(schema, &1)) do
      Enum.find(@tags, &(Map.has_key?(schema, &1) and not is_boolean(schema[&1])))
    end
  end

  defp read_tag(tag, value, place) when tag in ~w(dict map union) and is_list(value) do
    Words.from_word(tag, read_all(value, place), place)
  end

  defp read_tag(tag, _value, place) when tag in ~w(dict map union) do
    Place.fault(place, :unknown_type, "#{Place.quoted(tag)} takes an array of types")
  end

  defp read_tag(tag, value, place), do: Words.from_word(tag, [read(value, Place.inside(place))], place)

  defp read_structure(schema, place) do
    {type, pairs} = read_named(schema, place)

    type =
      if Map.has_key?(schema, "properties") do
        with_properties(type, schema, place)
      else
        type |> with_items(schema, place) |> with_values(schema, place)
      end

    {type, pairs}
  end

  defp read_named(schema, place) do
    case Enum.filter(~w(type anyOf oneOf), &Map.has_key?(schema, &1)) do
      [] -> {implied(schema), []}
      ["type"] -> open(schema["type"], Place.inside(place, "type"))
      [key] -> {read_union(key, schema[key], Place.inside(place, key)), []}
      [one, other | _] -> Place.fault(place, :unknown_type, "`#{one}` and `#{other}` cannot stand together")
    end
  end

  defp read_union(_key, [_ | _] = spellings, place), do: spellings |> read_all(place) |> Type.union_of()
  defp read_union(key, _other, place), do: Place.fault(place, :unknown_type, "`#{key}` takes an array of types")

  defp implied(schema) do
    cond do
      Map.has_key?(schema, "items") -> Type.list_of(Type.plain(:any))
      Map.has_key?(schema, "additionalProperties") or Map.has_key?(schema, "properties") -> any_map()
      true -> Type.plain(:any)
    end
  end

  defp any_map, do: Type.dict_of(Type.plain(:string), Type.plain(:any))

  defp with_items(type, schema, _place) when not is_map_key(schema, "items"), do: type

  defp with_items(%Type{kind: :list} = type, %{"items" => spelling}, place) do
    like(type, Type.list_of(read_part(spelling, Place.at(place, "items"))))
  end

  defp with_items(_type, _schema, place) do
    place |> Place.at("items") |> Place.fault(:unknown_type, "`items` stands only with a list")
  end

  defp with_values(type, schema, _place) when not is_map_key(schema, "additionalProperties"), do: type

  defp with_values(%Type{kind: :dict}, %{"additionalProperties" => false}, place) do
    reason = "an object without `properties` and without others takes nothing; use `map`"
    place |> Place.at("additionalProperties") |> Place.fault(:unknown_type, reason)
  end

  defp with_values(%Type{kind: :dict} = type, %{"additionalProperties" => spelling}, place) do
    like(type, Type.dict_of(type.key, read_part(spelling, Place.at(place, "additionalProperties"))))
  end

  defp with_values(_type, _schema, place) do
    reason = "`additionalProperties` stands only with an object"
    place |> Place.at("additionalProperties") |> Place.fault(:unknown_type, reason)
  end

  defp with_properties(type, schema, place) do
    if %{type | nullable: false} != any_map() or Map.has_key?(schema, "items") do
      Place.fault(place, :unknown_type, "`properties` stands only with the type object")
    end

    like(type, Objects.read(schema, place))
  end

  defp read_part(true, _place), do: Type.plain(:any)
  defp read_part(spelling, place), do: spelling |> read(Place.inside(place)) |> Words.require_value(place)

  defp like(type, made), do: if(type.nullable, do: Type.nullable_of(made), else: made)
end
