defmodule DSPexWorker.Signature.Formats do
  @moduledoc false
  # The formats that a string may be asked to have, as their RFCs spell them; the worker's own checks, translated.

  @max_characters 8_192
  @known ~w(date date-time time uuid email uri ipv4 ipv6)

  def known, do: @known

  @doc "Whether a text has a format; `name` is one of `known/0`."
  def has?(text, name) when name in @known do
    String.valid?(text) and DSPexWorker.Signature.Names.characters(text) <= @max_characters and check(name, text)
  end

  defp check("date", text), do: date?(text)
  defp check("time", text), do: time?(text)

  defp check("date-time", <<date::binary-size(10), mark, time::binary>>) when mark in ~c"Tt" do
    date?(date) and time?(time)
  end

  defp check("date-time", _text), do: false
  defp check("uuid", text), do: text =~ ~r/\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z/i

  defp check("email", text) do
    label = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    local = "[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
    byte_size(text) <= 254 and text =~ ~r/\A#{local}@#{label}(?:\.#{label})*\z/i
  end

  defp check("uri", text) do
    text =~ ~r/\A[a-z][a-z0-9+.-]*:(?:[\w.~:\/?#\[\]@!$&'()*+,;=-]|%[0-9a-f]{2})+\z/i and
      length(:binary.matches(text, "#")) <= 1 and authority?(text)
  end

  # Strict: unlike the other reader, it takes no shorthand such as 127.1.
  defp check("ipv4", text) do
    text =~ ~r/\A(?:0|[1-9]\d{0,2})(?:\.(?:0|[1-9]\d{0,2})){3}\z/ and
      match?({:ok, _}, :inet.parse_ipv4strict_address(String.to_charlist(text)))
  end

  defp check("ipv6", text) do
    text =~ ~r/\A[0-9a-f:.]+\z/i and ipv4_end?(text) and
      match?({:ok, _}, :inet.parse_ipv6strict_address(String.to_charlist(text)))
  end

  defp ipv4_end?(text) do
    last = text |> String.split(":") |> List.last()
    not String.contains?(last, ".") or check("ipv4", last)
  end

  defp date?(<<year::binary-size(4), "-", month::binary-size(2), "-", day::binary-size(2)>>) do
    with true <- Enum.all?([year, month, day], &digits?/1), false <- year == "0000" do
      :calendar.valid_date(String.to_integer(year), String.to_integer(month), String.to_integer(day))
    else
      _other -> false
    end
  end

  defp date?(_text), do: false

  defp time?(text) do
    text =~ ~r/\A([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)\z/i
  end

  defp digits?(text), do: text =~ ~r/\A\d+\z/

  # A port is a number up to 65535, and a bracket around a host is closed; behind it stands a port or nothing.
  defp authority?(text) do
    case Regex.run(~r/\A[^:]+:\/\/([^\/?#]*)/, text, capture: :all_but_first) do
      nil -> true
      [authority] -> authority |> String.split("@") |> List.last() |> host?(authority)
    end
  end

  defp host?(host, authority) do
    case {String.contains?(authority, "["), String.contains?(authority, "]")} do
      {false, false} -> port?(host |> String.split(":", parts: 2) |> Enum.at(1, ""))
      {true, true} -> bracketed?(host)
      _half -> false
    end
  end

  defp bracketed?(host) do
    case Regex.run(~r/\[[^\]]*\](.*)\z/, host, capture: :all_but_first) do
      nil -> true
      [""] -> true
      [":" <> port] -> port?(port)
      _other -> true
    end
  end

  defp port?(""), do: true
  defp port?(port), do: digits?(port) and String.to_integer(port) <= 65_535
end
