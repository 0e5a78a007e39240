defmodule DSPexWorker.Signature.Names do
  @moduledoc false
  # What a field may be called, as the wire contract has it.

  import DSPexWorker.Signature.Place, only: [fault: 3, fault: 4, quoted: 1]

  @max_characters 64
  @max_uncomposed 8 * @max_characters

  @doc "The name in NFC; one that is far too long to be a name, as it stands."
  def normal(name) do
    cond do
      ascii?(name) -> name
      not String.valid?(name) -> name
      byte_size(name) > @max_uncomposed and characters(name) > @max_uncomposed -> name
      true -> String.normalize(name, :nfc)
    end
  end

  @doc "A field name in NFC. `word?` is true in a string signature, where fewer characters can stand."
  def read(name, place, word? \\ false)

  def read(name, place, word?) when is_binary(name) do
    normal = normal(name)
    place = if place.field, do: place, else: %{place | field: normal}

    cond do
      characters(normal) > @max_characters ->
        reason = "field name #{quoted(normal)} is longer than #{@max_characters} characters"
        fault(place, :invalid_field_name, reason, breaks_limit: true)

      reason = reason(normal, word?) ->
        fault(place, :invalid_field_name, "field name #{quoted(normal)} #{reason}")

      true ->
        normal
    end
  end

  def read(_name, place, _word?), do: fault(place, :invalid_field_name, "field name must be a string")

  @doc "How many characters a text has, counted as JSON Schema does."
  def characters(text), do: characters(text, 0)

  defp characters(<<_::utf8, rest::binary>>, count), do: characters(rest, count + 1)
  defp characters(<<_, rest::binary>>, count), do: characters(rest, count + 1)
  defp characters(<<>>, count), do: count

  # Nearly every name, of every call's values.
  defp ascii?(<<byte, rest::binary>>) when byte < 0x80, do: ascii?(rest)
  defp ascii?(rest), do: rest == ""

  defp reason(name, word?) do
    cond do
      String.trim(name) == "" -> "is empty"
      word?(name) -> nil
      word? -> "must be letters, digits and _, not starting with a digit, with ? or ! only at the end"
      name != String.trim(name) -> "starts or ends with a space"
      not printable?(name) -> "has a character that cannot be printed"
      String.contains?(name, ["[", "]", "#"]) -> "must not contain [, ] or #"
      true -> nil
    end
  end

  defp word?(name), do: String.valid?(name) and name =~ ~r/\A[\p{L}_][\p{L}\p{N}_]*[?!]?\z/u

  defp printable?(name), do: String.valid?(name) and not (name =~ ~r/\p{C}|(?! )\p{Z}/u)
end
