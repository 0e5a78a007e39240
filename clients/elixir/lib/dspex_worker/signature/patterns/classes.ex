defmodule DSPexWorker.Signature.Patterns.Classes do
  @moduledoc false
  # Reads a class in brackets, with the nested classes and set operations that PCRE does not have.

  alias DSPexWorker.Signature.Patterns.{Reader, Sets}

  @operations %{"&&" => :and, "--" => :minus, "~~" => :xor}

  @doc "The class behind an opening bracket, written for PCRE; what follows it; whether its meaning is known."
  @spec read(String.t()) :: {String.t(), String.t(), boolean}
  def read(rest) do
    {set, rest} = class(rest)

    case written(set) do
      :unknown -> {"", rest, false}
      written -> {written, rest, true}
    end
  end

  defp class("^" <> rest), do: opened(rest, true)
  defp class(rest), do: opened(rest, false)

  defp opened(rest, negated?) do
    {first, rest} = leading(rest, [])
    {set, rest} = items(rest, first, nil)
    {if(negated?, do: {:not, set}, else: set), rest}
  end

  # At the start, dashes stand for themselves, and so does a closing bracket.
  defp leading("-" <> rest, taken), do: leading(rest, [{:character, ?-} | taken])
  defp leading("]" <> rest, []), do: {[{:character, ?]}], rest}
  defp leading(rest, taken), do: {taken, rest}

  defp items("", _taken, _left), do: Reader.refuse("unclosed character class")
  defp items("]" <> rest, taken, left), do: {joined(left, taken), rest}

  defp items(<<mark::binary-size(2), rest::binary>>, taken, left) when is_map_key(@operations, mark) do
    items(rest, [], {@operations[mark], joined(left, taken)})
  end

  defp items("[" <> rest, taken, left) do
    {set, rest} = ascii(rest) || class(rest)
    items(rest, [set | taken], left)
  end

  defp items(rest, taken, left) do
    {item, rest} = item(rest)
    {item, rest} = range(item, rest)
    items(rest, [item | taken], left)
  end

  defp joined(nil, taken), do: {:union, taken}
  defp joined({operation, left}, taken), do: {operation, left, {:union, taken}}

  defp ascii(rest) do
    with [whole, not_, name] <- Regex.run(~r/\A:(\^?)([a-z]+):\]/, rest),
         {:set, _, _} = set <- Sets.ascii(name, not_ == "^") do
      {set, binary_part(rest, byte_size(whole), byte_size(rest) - byte_size(whole))}
    else
      _other -> nil
    end
  end

  defp item("\\" <> <<mark, _::binary>>) when mark in ~c"bBAz<>" do
    Reader.refuse("invalid escape sequence found in character class")
  end

  defp item("\\" <> rest), do: Sets.escape(rest)
  defp item(<<character::utf8, rest::binary>>), do: {{:character, character}, rest}
  defp item(""), do: Reader.refuse("unclosed character class")

  defp range(item, "-]" <> _ = rest), do: {item, rest}
  defp range(item, "--" <> _ = rest), do: {item, rest}

  defp range(first, "-" <> rest) do
    {last, rest} = item(rest)
    {range_of(first, last), rest}
  end

  defp range(item, rest), do: {item, rest}

  defp range_of({:character, first}, {:character, last}) when first <= last, do: {:range, first, last}

  defp range_of({:character, _first}, {:character, _last}) do
    Reader.refuse("invalid character class range, the start must be <= the end")
  end

  defp range_of(_first, _last), do: Reader.refuse("invalid range boundary, must be a literal")

  # Each set is written as something that takes exactly one character.
  defp written({:not, set}) do
    with {:ok, written} <- known(set), do: negated(set, written)
  end

  defp written({:union, items}) do
    {flat, nested} = Enum.split_with(items, &(inside(&1) != nil))
    nested = Enum.map(nested, &written/1)

    cond do
      items == [] -> "(?!)"
      :unknown in nested -> :unknown
      nested == [] and flat != [] -> "[#{Enum.map_join(flat, &inside/1)}]"
      flat == [] -> "(?:#{Enum.join(nested, "|")})"
      true -> "(?:[#{Enum.map_join(flat, &inside/1)}]|#{Enum.join(nested, "|")})"
    end
  end

  defp written({operation, left, right}) when operation in [:and, :minus, :xor] do
    with {:ok, left} <- known(left), {:ok, right} <- known(right) do
      case operation do
        :and -> "(?:(?=#{left})#{right})"
        :minus -> "(?:(?!#{right})#{left})"
        :xor -> "(?:(?!#{right})#{left}|(?!#{left})#{right})"
      end
    end
  end

  defp written(item), do: Sets.written(item)

  defp known(set) do
    case written(set) do
      :unknown -> :unknown
      written -> {:ok, written}
    end
  end

  defp negated({:union, items}, written) do
    if items != [] and Enum.all?(items, &inside/1),
      do: "[^" <> binary_part(written, 1, byte_size(written) - 1),
      else: outside(written)
  end

  defp negated(_set, written), do: outside(written)

  defp outside(written), do: "(?:(?!#{written})#{Sets.any()})"

  defp inside({:character, character}), do: Sets.literal(character)
  defp inside({:range, first, last}), do: "#{Sets.literal(first)}-#{Sets.literal(last)}"
  defp inside({:set, inside, false}), do: inside
  defp inside(_nested), do: nil
end
