defmodule DSPexWorker.Migrate.Lines do
  @moduledoc false

  # `signature a: :t -> b: :t` does not parse as Elixir, so it is found line by line, outside of comments and heredocs.

  alias DSPexWorker.Migrate.{DSL, Literal}

  @use ~r/^(\s*use\s+)DSPex\.Signature(?![\w.])(.*)$/s
  @ours ~r/^\s*use\s+DSPexWorker\.Signature(?![\w.])/
  @arrow ~r/^(\s*)signature\b\s*(\(?\s*[a-z_]\w*[?!]?:\s.*)$/s
  @accepted ~r/^\s*(?:@signature_ast\b|signature\s*(?:"|\(|do\b))/
  @max_lines 60

  @type left :: {line :: pos_integer, reason :: String.t()}

  @doc "The source with the lines that were understood in the DSL, and those that were left."
  @spec rewrite(String.t()) :: {String.t(), [left]}
  def rewrite(source) do
    lines = String.split(source, "\n")
    walk(lines, %{number: 1, done: [], use: nil, heredoc: nil, left: []})
  end

  defp walk([], state) do
    {state.done |> Enum.reverse() |> Enum.join("\n"), Enum.reverse(state.left)}
  end

  defp walk([line | rest] = lines, state) do
    cond do
      state.heredoc -> keep(lines, %{state | heredoc: if(closes?(line, state.heredoc), do: nil, else: state.heredoc)})
      comment?(line) -> keep(lines, state)
      Regex.match?(@use, line) -> keep(lines, %{state | use: {:dspex, length(state.done)}})
      Regex.match?(@ours, line) -> keep(lines, %{state | use: :ours})
      match = Regex.run(@arrow, line) -> arrow(match, rest, state, lines)
      Regex.match?(@accepted, line) -> keep(lines, change_use(state))
      true -> keep(lines, %{state | heredoc: opens(line)})
    end
  end

  defp keep([line | rest], state) do
    walk(rest, %{state | done: [line | state.done], number: state.number + 1})
  end

  defp arrow([_line, indent, text], rest, state, [line | _] = lines) do
    {text, more, rest} = gather(text, rest, [])

    cond do
      parses?(text) -> keep(lines, change_use(state))
      not String.contains?(text, "->") -> keep(lines, state)
      state.use == nil -> leave(lines, "there is no `use DSPex.Signature` before it", state)
      true -> write(block(text), indent, {[line | more], rest}, state)
    end
  end

  defp write({:ok, block}, indent, {taken, rest}, state) do
    state = change_use(state)
    written = for line <- String.split(block, "\n"), do: if(line == "", do: "", else: indent <> line)
    walk(rest, %{state | done: Enum.reverse(written) ++ state.done, number: state.number + length(taken)})
  end

  defp write({:error, reason}, _indent, {taken, rest}, state), do: leave(taken ++ rest, reason, state)

  defp leave(lines, reason, state), do: keep(lines, %{state | left: [{state.number, reason} | state.left]})

  defp change_use(%{use: {:dspex, index}} = state) do
    at = length(state.done) - index - 1
    done = List.update_at(state.done, at, &Regex.replace(@use, &1, "\\1DSPexWorker.Signature\\2"))
    %{state | done: done, use: :ours}
  end

  defp change_use(state), do: state

  # A signature goes on while it ends with a comma or an arrow, or a bracket is open.
  defp gather(text, [line | rest], taken) when length(taken) < @max_lines do
    text = without_comment(text)

    if open?(text),
      do: gather(text <> "\n" <> without_comment(line), rest, [line | taken]),
      else: {text, Enum.reverse(taken), [line | rest]}
  end

  defp gather(text, rest, taken), do: {without_comment(text), Enum.reverse(taken), rest}

  defp open?(text) do
    text = String.trim_trailing(text)
    String.ends_with?(text, [",", "->"]) or depth(text) > 0
  end

  defp depth(text) do
    for <<letter <- text>>, reduce: 0 do
      depth when letter in ~c"([{" -> depth + 1
      depth when letter in ~c")]}" -> depth - 1
      depth -> depth
    end
  end

  defp without_comment(text) do
    if text =~ ~s("), do: text, else: Regex.replace(~r/(^|\s)#.*$/m, text, "")
  end

  defp block(text) do
    with [left, right] <- text |> closed() |> String.split("->"),
         {:ok, inputs} <- side(left),
         {:ok, outputs} <- side(right) do
      DSL.block(inputs, outputs)
    else
      {:error, reason} -> {:error, reason}
      _parts -> {:error, "it has more than one arrow"}
    end
  end

  defp closed(text) do
    text = String.trim(text)
    if String.starts_with?(text, "("), do: String.slice(text, 1..-2//1), else: text
  end

  defp side(text) do
    with {:ok, quoted} <- Code.string_to_quoted("[#{text}]"),
         {:ok, [_ | _] = fields} <- Literal.value(quoted),
         true <- Keyword.keyword?(fields) do
      {:ok, fields}
    else
      :error -> {:error, "it holds code that is no literal"}
      _other -> {:error, "its fields are not `name: type`"}
    end
  end

  # Without the brackets on the right it does not parse, and the parser warns of it.
  defp parses?(text) do
    text =~ ~r/->\s*\[/ and match?({:ok, _quoted}, Code.string_to_quoted("signature " <> text))
  end

  defp comment?(line), do: line |> String.trim_leading() |> String.starts_with?("#")

  defp opens(line) do
    Enum.find([~s("""), "'''"], fn mark -> rem(length(String.split(line, mark)), 2) == 0 end)
  end

  defp closes?(line, mark), do: line |> String.trim_leading() |> String.starts_with?(mark)
end
