defmodule DSPexWorker.Signature.Phrases do
  @moduledoc false
  # Says in English what a type takes, in the words of the worker's own refusals.

  alias DSPexWorker.Signature.Type

  @singular %{string: "string", integer: "integer", float: "number", boolean: "boolean", any: "any JSON value"}
  @plural %{
    string: "strings",
    integer: "integers",
    float: "numbers",
    boolean: "booleans",
    any: "JSON values of any type"
  }
  @formats %{
    "date" => "as a date like 2026-01-31",
    "date-time" => "as a date and time like 2026-01-31T12:30:00Z",
    "time" => "as a time like 12:30:00Z",
    "uuid" => "as a UUID",
    "email" => "as an email address",
    "uri" => "as a URI with its scheme",
    "ipv4" => "as an IPv4 address",
    "ipv6" => "as an IPv6 address"
  }
  @max_choices 50
  @max_code 200

  @spec type(Type.t()) :: String.t()
  def type(%Type{} = type) do
    phrase = if type.choices, do: chosen(type), else: open(type)

    cond do
      not type.nullable or type == Type.plain(:any) -> phrase
      String.contains?(phrase, ";") -> "null or #{phrase}"
      true -> "#{phrase} or null"
    end
  end

  @spec choices(Type.t()) :: String.t()
  def choices(%Type{choices: choices}) do
    shown = choices |> Enum.take(@max_choices) |> Enum.map_join(", ", &json/1)
    if length(choices) > @max_choices, do: shown <> ", …", else: shown
  end

  @spec length_of(Type.t()) :: String.t()
  def length_of(%Type{min_length: nil, max_length: nil}), do: ""
  def length_of(%Type{min_length: same, max_length: same}), do: "exactly #{same}"
  def length_of(%Type{min_length: least, max_length: nil}), do: "at least #{least}"
  def length_of(%Type{min_length: nil, max_length: most}), do: "at most #{most}"
  def length_of(%Type{min_length: least, max_length: most}), do: "#{least} to #{most}"

  @doc "A number as people write it: `1` for `1.0`."
  @spec number(number) :: String.t()
  def number(number) when is_integer(number), do: Integer.to_string(number)
  def number(number) when abs(number) < 1.0e15 and trunc(number) == number, do: Integer.to_string(trunc(number))
  def number(number), do: Float.to_string(number)

  @spec code(String.t()) :: String.t()
  def code(text) do
    if String.length(text) > @max_code, do: "`#{String.slice(text, 0, @max_code)}…`", else: "`#{text}`"
  end

  defp chosen(type), do: "#{@singular[type.kind] || open(type)}, one of: #{choices(type)}"

  defp open(%Type{kind: :union} = type), do: Enum.map_join(type.members, " or ", &in_brackets(type(&1)))
  defp open(%Type{kind: :list} = type), do: list(type)
  defp open(%Type{kind: :object} = type), do: "object with exactly #{Enum.map_join(type.properties, ", ", &member/1)}"

  defp open(%Type{kind: :string} = type) do
    length = length_of(type)

    [
      if(length == "", do: "string", else: "string of #{length} characters"),
      type.pattern && "matching #{code(type.pattern)}",
      type.format && @formats[type.format]
    ]
    |> joined()
  end

  defp open(%Type{kind: :dict} = type) do
    length = length_of(type)
    counted = if length == "", do: "object with", else: "object of #{length} entries with"
    "#{counted} #{key(type.key)} keys; each value: #{type(type.values)}"
  end

  defp open(%Type{} = type) do
    range = String.trim_trailing("#{@singular[type.kind]} #{range(type)}")
    joined([range, type.multiple_of && "a multiple of #{number(type.multiple_of)}"])
  end

  defp joined(phrases), do: phrases |> Enum.filter(& &1) |> Enum.join(", ")

  defp range(%Type{minimum: low, maximum: high}) when low != nil and high != nil do
    "from #{number(low)} to #{number(high)}"
  end

  defp range(type) do
    bounds = [
      {"of at least", type.minimum},
      {"greater than", type.exclusive_minimum},
      {"at most", type.maximum},
      {"less than", type.exclusive_maximum}
    ]

    said = for({words, bound} <- bounds, bound != nil, do: "#{words} #{number(bound)}") |> Enum.join(" and ")
    if String.starts_with?(said, "at most"), do: "of #{said}", else: said
  end

  defp list(%Type{items: items} = type) do
    size = [length_of(type), if(type.unique, do: "different", else: "")] |> Enum.reject(&(&1 == ""))
    plural = if plain?(items), do: @plural[items.kind]

    case {plural, size} do
      {nil, []} -> "list; each item: #{type(items)}"
      {nil, size} -> "list of #{Enum.join(size ++ ["items"], " ")}; each item: #{type(items)}"
      {plural, size} -> "list of #{Enum.join(size ++ [plural], " ")}"
    end
  end

  defp member(member) do
    optional = if member.required, do: "", else: ", may be left out"
    description = if member.description == "", do: "", else: "; #{member.description}"
    "#{json(member.name)} (#{type(member.type)}#{optional}#{description})"
  end

  defp key(key), do: if(plain?(key), do: type(key), else: "(#{type(key)})")

  defp in_brackets(phrase), do: if(String.contains?(phrase, [";", ","]), do: "(#{phrase})", else: phrase)

  defp plain?(type), do: type in [%Type{kind: type.kind}, Type.plain(:any)]

  defp json(nil), do: "null"
  defp json(value) when is_boolean(value), do: Atom.to_string(value)
  defp json(value) when is_integer(value), do: Integer.to_string(value)
  defp json(value) when is_float(value), do: Float.to_string(value)
  defp json(value) when is_list(value), do: "[#{Enum.map_join(value, ", ", &json/1)}]"
  defp json(value) when is_map(value), do: "{#{Enum.map_join(value, ", ", fn {k, v} -> "#{json(k)}: #{json(v)}" end)}}"
  defp json(text) when is_binary(text), do: "\"#{escaped(text)}\""

  defp escaped(text) do
    for <<character::utf8 <- text>>, into: "" do
      case character do
        ?" -> "\\\""
        ?\\ -> "\\\\"
        ?\n -> "\\n"
        ?\t -> "\\t"
        ?\r -> "\\r"
        low when low < 32 -> "\\u" <> String.pad_leading(Integer.to_string(low, 16), 4, "0")
        other -> <<other::utf8>>
      end
    end
  end
end
