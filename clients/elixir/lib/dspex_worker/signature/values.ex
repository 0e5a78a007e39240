defmodule DSPexWorker.Signature.Values do
  @moduledoc """
  Checks JSON values against types: strictly, in both directions, all faults at once.

  Only an integer becomes a float, and a float without a fraction becomes an integer; a boolean is never a number, text is
  never parsed. A union takes the first member that matches without such a change, else the first with one. A nested object
  always comes out with all its members, an absent one as its default, else nil, and takes no others.

  An empty list is an empty object where only an object may stand, as it is how Elixir writes an empty keyword list.
  """

  alias DSPexWorker.Signature.{Formats, Names, Numbers, Patterns, Phrases, Place, Type}

  @max_faults 100

  @typedoc "What is wrong, as {JSON pointer relative to the value checked, short phrase}."
  @type fault :: {String.t(), String.t()}

  @doc """
  The value as its type has it, or what is wrong with it.

  The value is one of JSON: nil, booleans, numbers, strings, lists, and maps with string keys. It comes out with the keys
  of the wire, or with `:own` ones: members of nested objects that were declared with atoms have these as keys.

      iex> alias DSPexWorker.Signature.{Type, Values}
      iex> Values.check(1, Type.plain(:float))
      {:ok, 1.0}
      iex> Values.check("1", Type.plain(:float))
      {:error, [{"", "must be a finite number"}]}
  """
  @spec check(term, Type.t(), :wire | :own) :: {:ok, term} | {:error, [fault, ...]}
  def check(value, type, keys \\ :wire) do
    case take(value, type, %{exact?: false, keys: keys}) do
      {taken, []} -> {:ok, taken}
      {_taken, faults} -> {:error, faults}
    end
  end

  # An exact pass, the first over a union, refuses the changes between integer and float too, and of empty lists.
  defp take(nil, type, _pass), do: if(type.nullable, do: {nil, []}, else: fault(nil, "must not be null"))
  defp take(value, %Type{choices: [_ | _]} = type, pass), do: take_choice(value, type, pass)
  defp take(value, %Type{kind: kind} = type, pass), do: take(kind, value, type, pass)

  defp take(:string, value, type, _pass) when is_binary(value) do
    if String.valid?(value), do: {value, text_faults(value, type)}, else: fault(value, "must be valid UTF-8")
  end

  defp take(:string, value, _type, _pass), do: fault(value, "must be a string")

  defp take(:integer, value, type, _pass) when is_integer(value), do: {value, range_faults(value, type)}

  defp take(:integer, value, type, %{exact?: false} = pass) when is_float(value) and trunc(value) == value do
    take(:integer, trunc(value), type, pass)
  end

  defp take(:integer, value, _type, _pass), do: fault(value, "must be an integer")

  defp take(:float, value, type, _pass) when is_float(value), do: {value, range_faults(value, type)}

  defp take(:float, value, type, %{exact?: false}) when is_integer(value) do
    case Numbers.to_float(value) do
      {:ok, float} -> {float, range_faults(float, type)}
      :error -> fault(value, "must be a finite number")
    end
  end

  defp take(:float, value, _type, _pass), do: fault(value, "must be a finite number")

  defp take(:boolean, value, _type, _pass) when is_boolean(value), do: {value, []}
  defp take(:boolean, value, _type, _pass), do: fault(value, "must be true or false")

  defp take(:any, value, _type, _pass),
    do: if(json?(value), do: {value, []}, else: fault(value, "must be a JSON value"))

  defp take(:list, value, type, pass) when is_list(value) do
    faults = length_faults(length(value), type, "items") ++ unique_faults(value, type)
    take_parts(Enum.with_index(value), faults, fn {item, index} -> {index, take(item, type.items, pass)} end)
  end

  defp take(:list, value, _type, _pass), do: fault(value, "must be a list")

  defp take(kind, [], type, %{exact?: false} = pass) when kind in [:dict, :object], do: take(kind, %{}, type, pass)

  defp take(:dict, value, type, pass) when is_map(value) and not is_struct(value) do
    faults = length_faults(map_size(value), type, "entries")

    {taken, faults} =
      take_parts(value, faults, fn {name, item} ->
        {taken, faults} = take(item, type.values, pass)
        {name, {{name, taken}, key_faults(name, type.key) ++ faults}}
      end)

    {Map.new(taken), faults}
  end

  defp take(:object, value, type, pass) when is_map(value) and not is_struct(value) do
    given = by_normal_name(value, MapSet.new(type.properties, & &1.name))

    {taken, faults} =
      take_parts(type.properties, [], fn member ->
        {taken, faults} = take_member(Map.fetch(given, member.name), member, pass)
        {member.name, {{key(member, pass), taken}, faults}}
      end)

    unknown = Map.keys(given) -- Enum.map(type.properties, & &1.name)

    {Map.new(taken),
     Enum.take(faults ++ Enum.map(unknown, &{Place.step(&1), "is no member of this object"}), @max_faults)}
  end

  defp take(kind, value, _type, _pass) when kind in [:dict, :object], do: fault(value, "must be an object")

  defp take(:union, value, type, pass) do
    passes = if pass.exact?, do: [pass], else: [%{pass | exact?: true}, pass]

    Enum.find_value(passes, &first_taken(value, type.members, &1)) || fault(value, "must be #{Phrases.type(type)}")
  end

  defp first_taken(value, members, pass) do
    Enum.find_value(members, fn member ->
      with {_taken, []} = taken <- take(value, member, pass), do: taken, else: (_faults -> nil)
    end)
  end

  defp take_member({:ok, nil}, %{required: false, type: %{nullable: false}} = member, pass) do
    take_member(:error, member, pass)
  end

  defp take_member({:ok, value}, member, pass), do: take(value, member.type, pass)
  defp take_member(:error, %{required: true}, _pass), do: {nil, [{"", "missing"}]}
  defp take_member(:error, %{default: {:value, default}} = member, pass), do: kept(default, member.type, pass)
  defp take_member(:error, _member, _pass), do: {nil, []}

  defp key(member, %{keys: :own}), do: member.key
  defp key(member, %{keys: :wire}), do: member.name

  # Defaults and choices are valid, and kept with the keys of the wire.
  defp kept(value, _type, %{keys: :wire}), do: {value, []}
  defp kept(value, type, pass), do: take(value, %{type | choices: nil, choice_index: %{}}, %{pass | exact?: false})

  # A list of a million wrong items must not become a million problems.
  defp take_parts(parts, faults, take) do
    {taken, faults} =
      Enum.reduce_while(parts, {[], faults}, fn part, {taken, faults} ->
        {step, {one, found}} = take.(part)
        faults = faults ++ below(found, step)

        if found != [] and length(faults) >= @max_faults,
          do: {:halt, {taken, faults}},
          else: {:cont, {[one | taken], faults}}
      end)

    {Enum.reverse(taken), faults}
  end

  defp below([], _step), do: []
  defp below(faults, step), do: for({pointer, phrase} <- faults, do: {Place.step(step) <> pointer, phrase})

  defp take_choice(value, type, pass) do
    case find_choice(value, type) do
      {:ok, choice} when not pass.exact? -> kept(choice, type, pass)
      {:ok, choice} when is_float(choice) == is_float(value) -> kept(choice, type, pass)
      _none -> fault(value, "must be one of: #{Phrases.choices(type)}")
    end
  end

  defp find_choice(value, type) do
    with :error <- Map.fetch(type.choice_index, Type.identity(value)), true <- is_list(value) or is_map(value) do
      # A choice has all members of its objects; the value may leave out those that are optional.
      case take(value, %{type | choices: nil, choice_index: %{}}, %{exact?: false, keys: :wire}) do
        {completed, []} -> Map.fetch(type.choice_index, Type.identity(completed))
        _faults -> :error
      end
    else
      {:ok, choice} -> {:ok, choice}
      false -> :error
    end
  end

  defp text_faults(text, type) do
    characters = if type.min_length || type.max_length, do: Names.characters(text), else: 0
    short? = type.max_length == nil or characters <= type.max_length

    length_faults(characters, type, "characters") ++
      fault_if(
        type.pattern != nil and short? and not Patterns.found?(type.pattern, text),
        fn -> "must match the pattern #{Phrases.code(type.pattern)}" end
      ) ++
      fault_if(type.format != nil and not Formats.has?(text, type.format), fn ->
        "must have the format #{type.format}"
      end)
  end

  defp length_faults(length, type, unit) do
    short? = type.min_length != nil and length < type.min_length
    long? = type.max_length != nil and length > type.max_length
    fault_if(short? or long?, fn -> "must have #{Phrases.length_of(type)} #{unit}, has #{length}" end)
  end

  # Most numbers of long lists have no bounds.
  defp range_faults(_number, %Type{
         minimum: nil,
         maximum: nil,
         exclusive_minimum: nil,
         exclusive_maximum: nil,
         multiple_of: nil
       }) do
    []
  end

  defp range_faults(number, type) do
    bound_faults(type.minimum, "must be at least", &(number < &1)) ++
      bound_faults(type.maximum, "must be at most", &(number > &1)) ++
      bound_faults(type.exclusive_minimum, "must be greater than", &(number <= &1)) ++
      bound_faults(type.exclusive_maximum, "must be less than", &(number >= &1)) ++
      bound_faults(type.multiple_of, "must be a multiple of", &(not Numbers.multiple?(number, &1)))
  end

  defp bound_faults(nil, _words, _wrong?), do: []
  defp bound_faults(bound, words, wrong?), do: fault_if(wrong?.(bound), fn -> "#{words} #{Phrases.number(bound)}" end)

  defp unique_faults(_items, %Type{unique: false}), do: []

  defp unique_faults(items, _type) do
    items
    |> Enum.with_index()
    |> Enum.reduce_while(%{}, fn {item, index}, seen ->
      case Map.fetch(seen, Type.identity(item)) do
        {:ok, first} -> {:halt, "must have no item twice: #{index} is the same as #{first}"}
        :error -> {:cont, Map.put(seen, Type.identity(item), index)}
      end
    end)
    |> case do
      phrase when is_binary(phrase) -> [{"", phrase}]
      _seen -> []
    end
  end

  defp key_faults(name, type) when is_binary(name) do
    key = if type.kind == :integer and name =~ ~r/\A-?(0|[1-9][0-9]*)\z/, do: String.to_integer(name), else: name
    {_taken, faults} = take(key, type, %{exact?: true, keys: :wire})
    for {_pointer, phrase} <- faults, do: {"", "key #{phrase}"}
  end

  defp key_faults(_name, _type), do: [{"", "must have a string as key"}]

  defp by_normal_name(value, names) do
    if Enum.all?(value, fn {name, _item} -> name in names end) do
      value
    else
      exact = Map.take(value, MapSet.to_list(names))
      value |> Map.new(fn {name, item} -> {normal(name), item} end) |> Map.merge(exact)
    end
  end

  defp normal(name), do: if(is_binary(name), do: Names.normal(name), else: name)

  defp json?(value) when is_nil(value) or is_boolean(value) or is_number(value), do: true
  defp json?(value) when is_binary(value), do: String.valid?(value)
  defp json?(value) when is_list(value), do: Enum.all?(value, &json?/1)

  defp json?(value) when is_map(value) and not is_struct(value) do
    Enum.all?(value, fn {name, item} -> is_binary(name) and String.valid?(name) and json?(item) end)
  end

  defp json?(_value), do: false

  defp fault(value, phrase), do: {value, [{"", phrase}]}
  defp fault_if(true, phrase), do: [{"", phrase.()}]
  defp fault_if(false, _phrase), do: []
end
