defmodule DSPexWorker.Signature.Bounds do
  @moduledoc false
  # Puts ranges, lengths, patterns, formats and choices on a type, in canonical form.

  alias DSPexWorker.Signature.{Names, Numbers, Patterns, Phrases, Place, Type, Values}

  @max_count 2 ** 53 - 1
  @max_step Integer.pow(10, 100)
  @max_pattern 1_000
  @max_text 8_192

  @range Map.new(~w(minimum maximum exclusive_minimum exclusive_maximum), &{&1, [String.to_atom(&1)]})
  @number Map.merge(@range, %{"min" => [:minimum], "max" => [:maximum], "multiple_of" => [:multiple_of]})
  @length %{
    "min" => [:min_length],
    "max" => [:max_length],
    "min_length" => [:min_length],
    "max_length" => [:max_length],
    "length" => [:min_length, :max_length]
  }
  @string Map.merge(@length, %{"pattern" => [:pattern], "format" => [:format]})
  @list Map.merge(@length, %{
          "min_items" => [:min_length],
          "max_items" => [:max_length],
          "dimensions" => [:min_length, :max_length],
          "unique_items" => [:unique]
        })
  @dict %{
    "min" => [:min_length],
    "max" => [:max_length],
    "min_properties" => [:min_length],
    "max_properties" => [:max_length]
  }
  @fitting %{integer: @number, float: @number, string: @string, list: @list, dict: @dict}
  @counts [:min_length, :max_length]
  @lowest [:minimum, :exclusive_minimum, :min_length]

  @doc "The type with the bounds and choices put on it; on a union a bound goes to every member that it fits."
  def constrain(type, given) do
    {choices, bounds} = Enum.split_with(given.bounds, fn {meaning, _pair} -> meaning == "choices" end)
    type = if bounds == [], do: type, else: put(type, bounds)
    if choices == [], do: type, else: choose(type, Enum.map(choices, &elem(&1, 1)))
  end

  defp put(%Type{kind: :union} = type, bounds) do
    for {meaning, pair} <- bounds, not fitting?(type, meaning), do: unfit(pair, type)

    members =
      for member <- type.members do
        case Enum.filter(bounds, fn {meaning, _pair} -> fitting?(member, meaning) end) do
          [] -> member
          fitting -> put(member, fitting)
        end
      end

    rebuilt(type, Type.union_of(members), last_place(bounds))
  end

  defp put(type, bounds) do
    limits = Enum.reduce(bounds, %{}, fn {meaning, pair}, limits -> add_limits(limits, type, meaning, pair) end)
    tighten(type, limits, last_place(bounds))
  end

  defp rebuilt(%Type{choices: nil} = type, bounded, _place) do
    if type.nullable, do: Type.nullable_of(bounded), else: bounded
  end

  defp rebuilt(type, bounded, place) do
    require_fits(type.choices, bounded, place)
    type
  end

  defp add_limits(limits, type, meaning, {key, _value, place} = pair) do
    names = get_in(@fitting, [type.kind, meaning]) || unfit(pair, type)
    limit = read_limit(hd(names), pair)

    Enum.reduce(names, limits, fn name, limits ->
      if Map.get(limits, name, limit) != limit do
        Place.fault(place, :invalid_constraint, "#{Place.quoted(key)} contradicts another constraint")
      end

      Map.put_new(limits, name, limit)
    end)
  end

  defp tighten(type, limits, place) do
    tight = Map.new(limits, fn {name, limit} -> {name, tighter(name, limit, Map.fetch!(type, name), place)} end)
    bounded = %{type | choices: nil, choice_index: %{}} |> struct!(tight) |> canonical(place)

    if empty?(bounded) do
      Place.fault(place, :invalid_constraint, "the constraints contradict each other: no value is left")
    end

    if type.choices == nil do
      bounded
    else
      require_fits(type.choices, bounded, place)
      type
    end
  end

  defp tighter(_name, limit, known, _place) when known in [nil, false] or known == limit, do: limit
  defp tighter(:unique, _limit, _known, _place), do: true

  defp tighter(name, _limit, _known, place) when name in [:multiple_of, :pattern, :format] do
    Place.fault(place, :invalid_constraint, "`#{name}` contradicts the one that a type already has")
  end

  defp tighter(name, limit, known, _place) when name in @lowest, do: max(limit, known)
  defp tighter(_name, limit, known, _place), do: min(limit, known)

  defp fitting?(%Type{kind: :union} = type, meaning), do: Enum.any?(type.members, &fitting?(&1, meaning))
  defp fitting?(type, meaning), do: get_in(@fitting, [type.kind, meaning]) != nil

  defp last_place(bounds) do
    {_meaning, {_key, _value, place}} = List.last(bounds)
    place
  end

  defp read_limit(name, pair) when name in @counts, do: read_count(pair)
  defp read_limit(:multiple_of, pair), do: read_step(pair)
  defp read_limit(:pattern, pair), do: read_pattern(pair)
  defp read_limit(:format, {_key, name, _place}), do: name
  defp read_limit(:unique, {_key, value, _place}) when is_boolean(value), do: value
  defp read_limit(:unique, {key, _value, place}), do: wrong(key, place, "must be true or false")
  defp read_limit(_range, {_key, value, _place}) when is_number(value), do: value
  defp read_limit(_range, {key, _value, place}), do: wrong(key, place, "must be a finite number")

  defp read_count({_key, value, _place})
       when is_number(value) and value >= 0 and value <= @max_count and trunc(value) == value do
    trunc(value)
  end

  defp read_count({key, _value, place}), do: wrong(key, place, "must be a whole number from 0 to #{@max_count}")

  defp read_step({key, value, place}) when is_number(value) do
    cond do
      value <= 0 -> wrong(key, place, "must be greater than 0")
      value < 1.0e-100 or value > @max_step -> wrong(key, place, "must be from 1e-100 to 1e100")
      true -> value
    end
  end

  defp read_step({key, _value, place}), do: wrong(key, place, "must be a finite number")

  defp read_pattern({key, pattern, place}) do
    if not is_binary(pattern) or not String.valid?(pattern), do: wrong(key, place, "must be a string")

    if Names.characters(pattern) > @max_pattern do
      wrong(key, place, "is longer than #{@max_pattern} characters", breaks_limit: true)
    end

    Place.pay_for_pattern(place, key, pattern, Patterns.cost(pattern))

    case Patterns.check(pattern) do
      :ok -> pattern
      {:error, reason} -> wrong(key, place, "is refused: #{reason}", breaks_limit: true)
    end
  end

  defp wrong(key, place, reason, options \\ []) do
    Place.fault(place, :invalid_constraint, "#{Place.quoted(key)} #{reason}", options)
  end

  defp unfit({key, _value, place}, type), do: wrong(key, place, "does not fit the type (#{Phrases.type(type)})")

  defp canonical(%Type{kind: :integer} = type, _place) do
    lows = [type.minimum && ceiling(type.minimum), type.exclusive_minimum && floor(type.exclusive_minimum) + 1]
    highs = [type.maximum && floor(type.maximum), type.exclusive_maximum && ceiling(type.exclusive_maximum) - 1]
    step = type.multiple_of && elem(Numbers.fraction(type.multiple_of), 0)

    %{
      type
      | minimum: outermost(lows, &Enum.max/1),
        maximum: outermost(highs, &Enum.min/1),
        exclusive_minimum: nil,
        exclusive_maximum: nil,
        multiple_of: if(step == 1, do: nil, else: step)
    }
  end

  defp canonical(%Type{kind: :float} = type, place) do
    {low, above} = inner(float(type.minimum, place), float(type.exclusive_minimum, place), &>/2)
    {high, below} = inner(float(type.maximum, place), float(type.exclusive_maximum, place), &</2)
    step = float(type.multiple_of, place)
    %{type | minimum: low, exclusive_minimum: above, maximum: high, exclusive_maximum: below, multiple_of: step}
  end

  defp canonical(type, _place), do: if(type.min_length == 0, do: %{type | min_length: nil}, else: type)

  # Of an inclusive and an exclusive bound the tighter one stays; of two alike, the exclusive one.
  defp inner(inclusive, exclusive, tighter) when inclusive != nil and exclusive != nil do
    if tighter.(inclusive, exclusive), do: {inclusive, nil}, else: {nil, exclusive}
  end

  defp inner(inclusive, exclusive, _tighter), do: {inclusive, exclusive}

  defp outermost(bounds, choose) do
    case Enum.reject(bounds, &is_nil/1) do
      [] -> nil
      given -> choose.(given)
    end
  end

  defp ceiling(number), do: if(is_integer(number), do: number, else: ceil(number))

  defp float(nil, _place), do: nil

  defp float(number, place) do
    case Numbers.to_float(number) do
      {:ok, float} -> float
      :error -> Place.fault(place, :invalid_constraint, "a bound is out of the range of floats")
    end
  end

  defp empty?(%Type{kind: :integer, minimum: low, maximum: high} = type) do
    (low != nil and high != nil and low > high) or not multiple_left?(type, low, high)
  end

  defp empty?(%Type{kind: :float} = type) do
    low = if type.exclusive_minimum, do: Numbers.next_up(type.exclusive_minimum), else: type.minimum
    high = if type.exclusive_maximum, do: Numbers.next_down(type.exclusive_maximum), else: type.maximum

    low == :infinity or high == :infinity or (low != nil and high != nil and low > high) or
      not multiple_left?(type, low, high)
  end

  defp empty?(type) do
    least = type.min_length || 0
    (type.unique and least > most_distinct(type.items)) or (type.max_length != nil and least > type.max_length)
  end

  defp multiple_left?(%Type{multiple_of: step}, low, high) do
    step == nil or low == nil or high == nil or Numbers.multiple_between?(step, low, high)
  end

  # :infinity is greater than every number.
  defp most_distinct(%Type{choices: [_ | _] = choices} = type), do: length(choices) + flag(type.nullable)
  defp most_distinct(%Type{kind: :boolean} = type), do: 2 + flag(type.nullable)
  defp most_distinct(_type), do: :infinity

  defp flag(true), do: 1
  defp flag(false), do: 0

  defp choose(type, pairs) do
    [{_pair, first} | others] = Enum.map(pairs, &{&1, read_choices(type, &1)})

    for {{key, _value, place}, choices} <- others, identities(choices) != identities(first) do
      wrong(key, place, "contradicts another constraint")
    end

    null? = Enum.any?(pairs, fn {_key, value, _place} -> nil in value end)
    distinct = Enum.uniq_by(first, &Type.identity/1)

    %Type{
      kind: type.kind,
      items: type.items,
      key: type.key,
      values: type.values,
      members: type.members,
      properties: type.properties,
      nullable: type.nullable and (type.kind != :any or null?),
      choices: distinct,
      choice_index: Map.new(distinct, &{Type.identity(&1), &1})
    }
  end

  defp read_choices(type, {key, value, place}) when is_list(value) do
    Place.pay_for_choices(place, key, length(value))

    case Enum.reject(require_fits(value, type, place), &is_nil/1) do
      [] -> wrong(key, place, "leaves no choice")
      choices -> choices
    end
  end

  defp read_choices(_type, {key, _value, place}), do: wrong(key, place, "must be a list")

  @doc "Choices as their type has them."
  def require_fits(choices, type, place) do
    require_short(choices, place)

    for {choice, index} <- Enum.with_index(choices) do
      case Values.check(choice, type) do
        {:ok, taken} ->
          taken

        {:error, [{_at, phrase} | _]} ->
          reason = "a choice does not fit the type (#{Phrases.type(type)}): #{phrase}"
          place |> Place.at(index) |> Place.fault(:invalid_constraint, reason)
      end
    end
  end

  @doc "Accepts the values of defaults and choices whose texts are short enough."
  def require_short(value, place) do
    if long?(value) do
      reason = "a text in a default or choice is longer than #{@max_text} characters"
      Place.fault(place, :invalid_signature, reason, breaks_limit: true)
    end
  end

  defp long?(text) when is_binary(text), do: byte_size(text) > @max_text and Names.characters(text) > @max_text
  defp long?(list) when is_list(list), do: Enum.any?(list, &long?/1)
  defp long?(%{} = map), do: Enum.any?(map, fn {_key, value} -> long?(value) end)
  defp long?(_other), do: false

  defp identities(choices), do: MapSet.new(choices, &Type.identity/1)
end
