defmodule DSPexWorker.Signature.Wire do
  @moduledoc """
  Turns the terms in which Elixir declares a signature into the spellings of the wire contract.

  Values become what `DSPexWorker.JSON.plain/1` makes of them, ranges lists. What has no form in JSON stays as it is, and is
  refused where it is read.
  """

  alias DSPexWorker.JSON

  @keys %{
    "desc" => "description",
    "any_of" => "anyOf",
    "additional_properties" => "additionalProperties"
  }
  @one_type ~w(type items additionalProperties list array optional)
  @many_types ~w(anyOf oneOf union dict map)
  @tuples [:list, :array, :optional]
  @dicts [:dict, :map]

  defguardp is_options(options) when is_list(options) and options != []

  @doc """
  A value for JSON.

      iex> DSPexWorker.Signature.Wire.value(%{on: ~D[2026-01-31], tags: [:a], pair: {1, nil}})
      %{"on" => "2026-01-31", "tags" => ["a"], "pair" => [1, nil]}

      iex> DSPexWorker.Signature.Wire.value([max: 1])
      %{"max" => 1}
  """
  @spec value(term) :: term
  def value(%Range{} = range), do: Enum.to_list(range)

  def value(value) do
    case JSON.plain(value) do
      {:ok, plain} -> plain
      {:error, _problem} -> {:no_json, value}
    end
  end

  @doc """
  A type as the wire contract spells it, from a term of the DSL.

      iex> DSPexWorker.Signature.Wire.type({:list, {:string, min_length: 1}})
      ["list", %{"type" => "string", "min_length" => 1}]
  """
  @spec type(term) :: term
  def type(type) when is_nil(type) or is_boolean(type) or is_binary(type), do: type
  def type(type) when is_atom(type), do: Atom.to_string(type)

  def type({type, options}) when is_options(options),
    do: if(Keyword.keyword?(options), do: schema(type(type), options), else: tagged({type, options}))

  def type({type, []}) when type not in [:union | @tuples], do: type(type)
  def type({tag, _inner} = type) when tag in [:union | @tuples], do: tagged(type)

  def type({tag, inner, options}) when tag in [:union | @tuples] and is_options(options),
    do: type({{tag, inner}, options})

  def type({tag, key, values}) when tag in @dicts, do: ["dict", type(key), type(values)]

  def type({tag, key, values, options}) when tag in @dicts and is_options(options),
    do: type({{tag, key, values}, options})

  def type(types) when is_list(types), do: Enum.map(types, &type/1)
  def type(%{} = schema) when not is_struct(schema), do: Map.new(schema, &option/1)
  def type(other), do: other

  @doc "A whole definition with string keys; each field's own name is kept under `:key`."
  @spec definition(map) :: map
  def definition(definition) do
    definition
    |> Map.drop([:module, :opts])
    |> Map.new(fn
      {key, value} when key in [:inputs, :outputs, "inputs", "outputs"] -> {to_string(key), fields(value)}
      {key, nil} when is_atom(key) -> {to_string(key), nil}
      {key, value} -> {to_string(key), value(value)}
    end)
  end

  @doc false
  # One field, from a map or from `{name, type}` or `{name, type, constraints}`.
  def field({name, type}), do: field({name, type, []})

  def field({name, type, options}) do
    %{"name" => name(name), :key => name, "type" => type(type), "constraints" => constraints(options)}
  end

  def field(%{} = field) when not is_struct(field) do
    name = Map.get(field, :name, Map.get(field, "name"))
    field |> Map.new(&field_part/1) |> Map.merge(%{"name" => name(name), :key => name})
  end

  def field(other), do: other

  defp fields(fields) when is_list(fields), do: Enum.map(fields, &field/1)
  defp fields(other), do: other

  defp field_part({key, value}) when key in [:constraints, "constraints"], do: {"constraints", constraints(value)}
  defp field_part({key, value}) when key in [:metadata, "metadata"], do: {"metadata", value}
  defp field_part(pair), do: option(pair)

  defp name(name) when is_atom(name) and not is_nil(name) and not is_boolean(name), do: Atom.to_string(name)
  defp name(name), do: name

  defp constraints(pairs) when is_list(pairs), do: Enum.map(pairs, &pair/1)
  defp constraints(%{} = constraints) when not is_struct(constraints), do: Map.new(constraints, &option/1)
  defp constraints(other), do: other

  defp pair({key, value}) do
    {key, value} = option({key, value})
    [key, value]
  end

  defp pair(other), do: value(other)

  # Options that are given twice stand in two schemas, so that a contradiction is found.
  defp schema(type, options) do
    {first, again} = split_doubles(options)
    schema = options_of(first) |> Map.put_new("type", type)
    if again == [], do: schema, else: schema(schema, again)
  end

  defp split_doubles(options) do
    first = Enum.uniq_by(options, &elem(&1, 0))
    {first, options -- first}
  end

  defp options_of(options), do: Map.new(options, &option/1)

  defp option({key, value}) do
    key = key(key)

    cond do
      key in @one_type -> {key, type(value)}
      key in @many_types and is_list(value) -> {key, Enum.map(value, &type/1)}
      key == "properties" -> {key, properties(value)}
      key == "pattern" -> {key, pattern(value)}
      true -> {key, value(value)}
    end
  end

  defp key(key) when is_atom(key), do: Map.get(@keys, Atom.to_string(key), Atom.to_string(key))
  defp key(key) when is_binary(key), do: key
  defp key(key), do: inspect(key)

  # Names stay as they are, for they are the keys of results.
  defp properties(%{} = properties) when not is_struct(properties) do
    properties |> Enum.sort_by(fn {name, _type} -> to_string(name) end) |> properties()
  end

  defp properties([{_name, _type} | _] = properties) do
    {:ordered, for({name, type} <- properties, do: {name, type(type)})}
  end

  defp properties(other), do: other

  defp pattern(%Regex{} = regex) do
    case flags(Regex.opts(regex)) do
      "" -> Regex.source(regex)
      flags -> "(?#{flags})#{Regex.source(regex)}"
    end
  end

  defp pattern(other), do: value(other)

  # Newer versions of Elixir give atoms in place of letters.
  defp flags(letters) when is_binary(letters),
    do: for(<<letter <- letters>>, letter in ~c"ismxU", into: "", do: <<letter>>)

  defp flags(options) do
    letters = [caseless: "i", dotall: "s", multiline: "m", extended: "x", ungreedy: "U"]
    for option <- options, is_atom(option), letter = letters[option], into: "", do: letter
  end

  defp tagged({:union, members}) when is_list(members), do: ["union", Enum.map(members, &type/1)]
  defp tagged({tag, inner}) when tag in @tuples, do: [Atom.to_string(tag), type(inner)]
  defp tagged(other), do: other
end
