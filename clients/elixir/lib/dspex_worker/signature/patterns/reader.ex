defmodule DSPexWorker.Signature.Patterns.Reader do
  @moduledoc false
  # Reads the syntax of Rust's `regex` and writes what it means for PCRE, one part after the other.

  alias DSPexWorker.Signature.Patterns.{Classes, Sets}

  @max_count 4_294_967_295
  @word Sets.word()
  @before_word "(?<=#{@word})"
  @not_before_word "(?<!#{@word})"
  @at_word "(?=#{@word})"
  @not_at_word "(?!#{@word})"
  @boundaries %{
    "start" => @not_before_word <> @at_word,
    "end" => @before_word <> @not_at_word,
    "start-half" => @not_before_word,
    "end-half" => @not_at_word
  }
  @boundary "(?:#{@before_word}#{@not_at_word}|#{@not_before_word}#{@at_word})"
  @no_boundary "(?:#{@before_word}#{@at_word}|#{@not_before_word}#{@not_at_word})"

  @doc "The pattern for PCRE, `:unknown` where it cannot be told, or why the engine refuses it."
  @spec read(String.t()) :: {:ok, String.t() | :unknown} | {:error, String.t()}
  def read(pattern) do
    case alternatives(pattern, %{m: false, s: false, known: true, folds: false, names: []}, []) do
      {written, "", %{known: true} = state} ->
        {:ok, if(state.folds and properties?(pattern), do: :unknown, else: written)}

      {_written, "", _state} ->
        {:ok, :unknown}

      {_written, ")" <> _, _state} ->
        {:error, "unopened group"}
    end
  catch
    {:refused, reason} -> {:error, reason}
  end

  # Where case is ignored, PCRE takes a property such as \p{Lu} as it stands, and the engine does not.
  defp properties?(pattern), do: String.contains?(pattern, ["\\p", "\\P"])

  @doc false
  @spec refuse(String.t()) :: no_return
  def refuse(reason), do: throw({:refused, reason})

  defp alternatives(rest, state, taken) do
    {parts, rest, state} = sequence(rest, state, [])
    written = parts |> Enum.reverse() |> Enum.map_join(&elem(&1, 1))

    case rest do
      "|" <> rest -> alternatives(rest, state, [written | taken])
      rest -> {[written | taken] |> Enum.reverse() |> Enum.join("|"), rest, state}
    end
  end

  # Parts are {kind, written}: one character or class, anything that needs brackets, or flags, which cannot be repeated.
  defp sequence("", state, parts), do: {parts, "", state}
  defp sequence("|" <> _ = rest, state, parts), do: {parts, rest, state}
  defp sequence(")" <> _ = rest, state, parts), do: {parts, rest, state}
  defp sequence("(" <> rest, state, parts), do: group(rest, state, parts)

  defp sequence(<<mark, rest::binary>>, state, parts) when mark in ~c"*+?" do
    {lazy, rest} = lazy(rest)
    sequence(rest, state, repeated(parts, <<mark>> <> lazy))
  end

  defp sequence("{" <> rest, state, parts) do
    repeatable(parts)
    {count, rest} = count(rest)
    {lazy, rest} = lazy(rest)
    sequence(rest, state, repeated(parts, count <> lazy))
  end

  defp sequence("[" <> rest, state, parts) do
    {written, rest, known?} = Classes.read(rest)
    sequence(rest, known(state, known?), [{:one, written} | parts])
  end

  defp sequence("." <> rest, state, parts), do: sequence(rest, state, [{:one, any(state)} | parts])
  defp sequence("^" <> rest, state, parts), do: sequence(rest, state, [{:many, line_start(state)} | parts])
  defp sequence("$" <> rest, state, parts), do: sequence(rest, state, [{:many, line_end(state)} | parts])

  defp sequence("\\" <> rest, state, parts) do
    {part, rest, known?} = escape(rest)
    sequence(rest, known(state, known?), [part | parts])
  end

  defp sequence(<<character::utf8, rest::binary>>, state, parts) do
    sequence(rest, state, [{:one, Sets.literal(character)} | parts])
  end

  defp any(%{s: true}), do: Sets.any()
  defp any(_state), do: "[^\\x{A}]"

  defp line_start(%{m: true}), do: "(?<![^\\x{A}])"
  defp line_start(_state), do: "\\A"

  defp line_end(%{m: true}), do: "(?![^\\x{A}])"
  defp line_end(_state), do: "\\z"

  defp known(state, known?), do: %{state | known: state.known and known?}

  defp repeatable([]), do: refuse("repetition operator missing expression")
  defp repeatable([{:flags, _} | _]), do: refuse("repetition operator missing expression")
  defp repeatable(_parts), do: :ok

  defp repeated(parts, mark) do
    repeatable(parts)

    case parts do
      [{:one, written} | parts] -> [{:many, written <> mark} | parts]
      [{_kind, written} | parts] -> [{:many, "(?:#{written})" <> mark} | parts]
    end
  end

  defp lazy("?" <> rest), do: {"?", rest}
  defp lazy(rest), do: {"", rest}

  defp count(rest) do
    case String.split(rest, "}", parts: 2) do
      [inside, rest] -> {inside |> String.split(",") |> count_of(), rest}
      [_inside] -> refuse("unclosed counted repetition")
    end
  end

  defp count_of([exact]), do: "{#{decimal(exact)}}"

  defp count_of([least, most]) do
    least = decimal(least)

    cond do
      String.trim(most) == "" -> "{#{least},}"
      decimal(most) < least -> refuse("invalid repetition count range, the start must be <= the end")
      true -> "{#{least},#{decimal(most)}}"
    end
  end

  defp count_of(_more), do: refuse("unclosed counted repetition")

  defp decimal(text) do
    case Integer.parse(String.trim(text)) do
      {number, ""} when number in 0..@max_count -> number
      {_number, ""} -> refuse("decimal literal invalid")
      _none -> refuse("repetition quantifier expects a valid decimal")
    end
  end

  defp group("?" <> rest, state, parts), do: special_group(rest, state, parts)
  defp group(rest, state, parts), do: inside(rest, state, state, parts, "(?:")

  defp special_group(<<mark, _::binary>>, _state, _parts) when mark in ~c"=!", do: refuse_look()
  defp special_group(<<"<", mark, _::binary>>, _state, _parts) when mark in ~c"=!", do: refuse_look()
  defp special_group("P<" <> rest, state, parts), do: named_group(rest, state, parts)
  defp special_group("<" <> rest, state, parts), do: named_group(rest, state, parts)

  defp special_group(rest, state, parts) do
    {flags, mark, rest} = flags(rest)
    inner = set(state, flags)

    case mark do
      ":" -> inside(rest, inner, state, parts, "(?#{written(flags)}:")
      ")" when flags == [] -> refuse("repetition operator missing expression")
      ")" -> sequence(rest, inner, [{:flags, flags_written(flags)} | parts])
    end
  end

  @spec refuse_look() :: no_return
  defp refuse_look, do: refuse("look-around, including look-ahead and look-behind, is not supported")

  defp named_group(rest, state, parts) do
    case Regex.run(~r/\A([\p{L}_][\p{L}\p{N}_.\[\]]*)>/u, rest) do
      nil ->
        refuse("invalid capture group character")

      [whole, name] ->
        named_group(name, binary_part(rest, byte_size(whole), byte_size(rest) - byte_size(whole)), state, parts)
    end
  end

  defp named_group(name, rest, state, parts) do
    if name in state.names, do: refuse("duplicate capture group name")
    state = %{state | names: [name | state.names]}
    inside(rest, state, state, parts, "(?:")
  end

  # Flags that are set inside a group end with it.
  defp inside(rest, inner, outer, parts, opening) do
    case alternatives(rest, inner, []) do
      {written, ")" <> rest, after_group} ->
        state = Map.merge(outer, Map.take(after_group, [:known, :folds, :names]))
        sequence(rest, state, [{:many, "#{opening}#{written})"} | parts])

      {_written, "", _state} ->
        refuse("unclosed group")
    end
  end

  defp flags(rest) do
    case Regex.run(~r/\A([^:)]*)([:)])/su, rest) do
      nil ->
        refuse("unclosed group")

      [whole, letters, mark] ->
        {read_flags(letters), mark, binary_part(rest, byte_size(whole), byte_size(rest) - byte_size(whole))}
    end
  end

  defp read_flags(letters) do
    {flags, last} = letters |> String.graphemes() |> Enum.reduce({[], :on}, &read_flag/2)
    if last == :dangling, do: refuse("dangling flag negation operator")
    Enum.reverse(flags)
  end

  defp read_flag("-", {flags, :on}), do: {flags, :dangling}
  defp read_flag("-", _state), do: refuse("flag negation operator repeated")

  defp read_flag(letter, {flags, state}) when letter in ~w(i m s U u R x) do
    if Enum.any?(flags, &match?({^letter, _}, &1)), do: refuse("duplicate flag")
    {[{letter, state == :on} | flags], if(state == :on, do: :on, else: :off)}
  end

  defp read_flag(_letter, _state), do: refuse("unrecognized flag")

  defp set(state, flags) do
    Enum.reduce(flags, state, fn
      {"m", on?}, state -> %{state | m: on?}
      {"s", on?}, state -> %{state | s: on?}
      {"i", true}, state -> %{state | folds: true}
      {"u", false}, state -> %{state | known: false}
      {"R", true}, state -> %{state | known: false}
      {"x", true}, state -> %{state | known: false}
      _other, state -> state
    end)
  end

  defp flags_written(flags) do
    case written(flags) do
      "" -> ""
      letters -> "(?#{letters})"
    end
  end

  # `m` and `s` are written into the parts that they change; the others do not exist in PCRE.
  defp written(flags) do
    on = for {letter, true} <- flags, letter in ~w(i U), do: letter
    off = for {letter, false} <- flags, letter in ~w(i U), do: letter
    Enum.join(on) <> if(off == [], do: "", else: "-" <> Enum.join(off))
  end

  defp escape("A" <> rest), do: {{:many, "\\A"}, rest, true}
  defp escape("z" <> rest), do: {{:many, "\\z"}, rest, true}
  defp escape("B" <> rest), do: {{:many, @no_boundary}, rest, true}
  defp escape("<" <> rest), do: {{:many, @boundaries["start"]}, rest, true}
  defp escape(">" <> rest), do: {{:many, @boundaries["end"]}, rest, true}

  defp escape("b" <> rest) do
    case Regex.run(~r/\A\{([A-Za-z-]*)\}/, rest) do
      [whole, name] when is_map_key(@boundaries, name) ->
        {{:many, @boundaries[name]}, binary_part(rest, byte_size(whole), byte_size(rest) - byte_size(whole)), true}

      [_whole, _name] ->
        refuse("unrecognized special word boundary assertion")

      nil ->
        {{:many, @boundary}, rest, true}
    end
  end

  defp escape(rest) do
    {item, rest} = Sets.escape(rest)

    case Sets.written(item) do
      :unknown -> {{:one, ""}, rest, false}
      written -> {{:one, written}, rest, true}
    end
  end
end
