defmodule DSPexWorker.Signature.Grammar do
  @moduledoc """
  Reads types and signatures that are written as text, by the grammar of the wire contract.

      signature = side "->" side        side = field { "," field }        field = NAME [ ":" type ]
      type = post { "|" post }          post = prim { "?" }               prim = [":"] WORD [ args ] | "(" type ")"
      args = ("<" | "[" | "(") type { ("," | "|") type } the matching bracket

  Words ignore case, spaces are free, and a NAME ends at the colon. The text is only ever compared with known words: no
  atom is made from it. The functions are for `DSPexWorker.Signature.Definition`, which is the way in.
  """

  alias DSPexWorker.Signature.{Names, Place, Type, Words}

  @max_characters 16_384
  @max_fields 100
  @stops [?<, ?>, ?[, ?], ?(, ?), ?|, ?,, ??, ?:]
  @closing %{?< => ?>, ?[ => ?], ?( => ?)}

  @doc false
  def read_type(text, place) do
    require_length(text, place)
    {type, rest} = type(text, text, place)
    require_end(rest, text, place)
    type
  end

  @doc false
  def read_signature(text, place) do
    require_length(text, place)

    case String.split(text, "->") do
      [inputs, outputs] ->
        {inputs, faults} = side(inputs, place)
        # A limit that is broken ends the reading.
        {outputs, more} = if limit_broken?(faults), do: {[], []}, else: side(outputs, place)
        Place.refuse(faults ++ more)
        {inputs, outputs}

      _other ->
        reason = "a signature has exactly one `->`, as in `text: string -> label: string`"
        Place.fault(place, :invalid_signature, reason)
    end
  end

  # The fields of a side, and what is wrong with it.
  defp side(text, place) do
    taken = if String.trim(text) == "", do: [Place.attempt(fn -> empty(place) end)], else: fields(text, text, place, [])
    {for({:ok, field} <- taken, do: field), for({:fault, fault} <- taken, do: fault)}
  end

  defp empty(place), do: Place.fault(place, :invalid_signature, "a signature needs at least one input and one output")

  defp fields(rest, text, place, taken) do
    case Place.attempt(fn -> next_field(rest, text, place, length(taken)) end) do
      {:ok, {field, nil}} -> Enum.reverse([{:ok, field} | taken])
      {:ok, {field, rest}} -> fields(rest, text, place, [{:ok, field} | taken])
      {:fault, fault} -> fields_behind(fault, rest, text, place, taken)
    end
  end

  # A field that is wrong ends at the next comma outside of brackets, and what comes then may be wrong as well.
  defp fields_behind(fault, rest, text, place, taken) do
    taken = [{:fault, fault} | taken]
    behind = if fault.breaks_limit, do: nil, else: behind_comma(rest, 0)
    if behind, do: fields(behind, text, place, taken), else: Enum.reverse(taken)
  end

  defp next_field(rest, text, place, count) do
    if count >= @max_fields do
      Place.fault(place, :invalid_signature, "more than #{@max_fields} fields", breaks_limit: true)
    end

    {field, rest} = field(rest, text, place)

    case accept(rest, ?,) do
      {:ok, rest} -> {field, rest}
      :error -> require_end(rest, text, place) && {field, nil}
    end
  end

  defp behind_comma(<<?,, rest::binary>>, 0), do: rest
  defp behind_comma(<<mark, rest::binary>>, depth) when mark in [?<, ?[, ?(], do: behind_comma(rest, depth + 1)
  defp behind_comma(<<mark, rest::binary>>, depth) when mark in [?>, ?], ?)], do: behind_comma(rest, max(depth - 1, 0))
  defp behind_comma(<<_other, rest::binary>>, depth), do: behind_comma(rest, depth)
  defp behind_comma(<<>>, _depth), do: nil

  defp limit_broken?(faults), do: Enum.any?(faults, & &1.breaks_limit)

  defp field(rest, text, place) do
    [written] = Regex.run(~r/\A[^:,]*/u, rest)
    name = written |> String.trim() |> Names.read(place, true)
    rest = binary_part(rest, byte_size(written), byte_size(rest) - byte_size(written))

    case accept(rest, ?:) do
      :error -> {{name, Type.plain(:string)}, rest}
      {:ok, rest} -> typed_field(name, rest, text, Place.of_field(place, name))
    end
  end

  defp typed_field(name, rest, text, place) do
    {type, rest} = type(rest, text, place)
    type = Words.require_value(type, place)
    if peek(rest) not in [nil, ?,], do: unexpected(rest, text, place)
    {{name, type}, rest}
  end

  defp type(rest, text, place) do
    {members, rest} = members(rest, text, Place.inside(place), [])
    {if(match?([_], members), do: hd(members), else: Type.union_of(members)), rest}
  end

  defp members(rest, text, place, taken) do
    {member, rest} = post(rest, text, place)

    case accept(rest, ?|) do
      {:ok, rest} -> members(rest, text, place, [member | taken])
      :error -> {Enum.reverse([member | taken]), rest}
    end
  end

  defp post(rest, text, place) do
    {type, rest} = prim(rest, text, place)
    optional(type, rest)
  end

  defp optional(type, rest) do
    case accept(rest, ??) do
      {:ok, rest} -> optional(Type.nullable_of(type), rest)
      :error -> {type, rest}
    end
  end

  defp prim(rest, text, place) do
    case accept(rest, ?() do
      {:ok, rest} ->
        {type, rest} = type(rest, text, place)
        {type, require_mark(rest, ?), text, place)}

      :error ->
        word(rest, text, place)
    end
  end

  defp word(rest, text, place) do
    rest = with :error <- accept(rest, ?:), do: {:ok, rest}
    {:ok, rest} = rest

    case split_word(String.trim_leading(rest)) do
      {"", rest} ->
        unexpected(rest, text, place)

      {word, rest} ->
        {arguments, rest} = arguments(rest, text, place)
        {Words.from_word(word, arguments, place), rest}
    end
  end

  defp arguments(rest, text, place) do
    case @closing[peek(rest)] do
      nil ->
        {nil, rest}

      closing ->
        <<_opening, rest::binary>> = String.trim_leading(rest)
        {arguments, rest} = argument_list(rest, text, place, [])
        {arguments, require_mark(rest, closing, text, place)}
    end
  end

  defp argument_list(rest, text, place, taken) do
    {argument, rest} = type(rest, text, place)

    case accept(rest, ?,) do
      {:ok, rest} -> argument_list(rest, text, place, [argument | taken])
      :error -> {Enum.reverse([argument | taken]), rest}
    end
  end

  defp split_word(text), do: split_word(text, text, 0)

  defp split_word(<<mark, _::binary>>, text, size) when mark in @stops, do: cut(text, size)

  defp split_word(<<character::utf8, rest::binary>>, text, size) do
    if String.trim(<<character::utf8>>) == "" do
      cut(text, size)
    else
      split_word(rest, text, size + byte_size(<<character::utf8>>))
    end
  end

  defp split_word(<<>>, text, size), do: cut(text, size)

  defp cut(text, size), do: {binary_part(text, 0, size), binary_part(text, size, byte_size(text) - size)}

  defp accept(rest, mark) do
    case String.trim_leading(rest) do
      <<^mark, rest::binary>> -> {:ok, rest}
      _other -> :error
    end
  end

  defp peek(rest) do
    case String.trim_leading(rest) do
      <<character::utf8, _::binary>> -> character
      "" -> nil
    end
  end

  defp require_mark(rest, mark, text, place) do
    case accept(rest, mark) do
      {:ok, rest} -> rest
      :error -> unexpected(rest, text, place, ", expected `#{<<mark>>}`")
    end
  end

  defp require_end(rest, text, place), do: if(peek(rest) == nil, do: true, else: unexpected(rest, text, place))

  defp require_length(text, place) do
    cond do
      not String.valid?(text) ->
        Place.fault(place, :invalid_signature, "the text is not valid UTF-8", breaks_limit: true)

      Names.characters(text) > @max_characters ->
        reason = "the text is longer than #{@max_characters} characters"
        Place.fault(place, :invalid_signature, reason, breaks_limit: true)

      true ->
        :ok
    end
  end

  @spec unexpected(String.t(), String.t(), map, String.t()) :: no_return
  defp unexpected(rest, text, place, expected \\ "") do
    shown = if String.trim(rest) == "", do: "the end", else: Place.quoted(String.trim(rest))
    whole = String.trim(text)
    reason = "type #{Place.quoted(whole)} is malformed at #{shown}#{expected}; #{Words.nearest(whole)}"
    Place.fault(place, :unknown_type, reason)
  end
end
