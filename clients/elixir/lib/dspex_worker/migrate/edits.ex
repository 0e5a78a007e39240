defmodule DSPexWorker.Migrate.Edits do
  @moduledoc false

  # Changes of a source by line and column, so that everything else stays as it was written.

  alias DSPexWorker.Migrate.Tree

  @type t ::
          {:replace, {line :: pos_integer, column :: pos_integer}, {pos_integer, pos_integer}, String.t()}
          | {:insert, line :: pos_integer, String.t()}

  @doc "Puts a name in place of a literal map."
  @spec replace_map(Macro.t(), String.t()) :: t
  def replace_map({:%{}, meta, _pairs}, name) do
    closing = meta[:closing]
    {:replace, {meta[:line], meta[:column]}, {closing[:line], closing[:column]}, name}
  end

  @doc "Puts a module before an expression and the comments above it."
  @spec insert_before(Macro.t(), String.t()) :: t
  def insert_before(expression, text), do: {:insert, Tree.first_line(expression), text}

  @doc "Applies edits that do not overlap."
  @spec apply(String.t(), [t]) :: String.t()
  def apply(source, edits) do
    lines = source |> String.split("\n") |> Enum.with_index(1) |> Map.new(fn {line, number} -> {number, line} end)

    replaced =
      edits |> Enum.filter(&match?({:replace, _, _, _}, &1)) |> Enum.sort(:desc) |> Enum.reduce(lines, &replace/2)

    inserted =
      for {:insert, line, text} <- edits, reduce: %{}, do: (more -> insert(more, above_comments(line, lines), text))

    1..map_size(lines)
    |> Enum.flat_map(&(Map.get(inserted, &1, []) ++ List.wrap(replaced[&1])))
    |> Enum.join("\n")
  end

  defp replace({:replace, {first, from}, {last, to}, text}, lines) do
    kept = before_map(lines[first], from - 1) <> text <> String.slice(lines[last], to, String.length(lines[last]))

    first..last
    |> Enum.reduce(lines, fn number, lines -> Map.put(lines, number, nil) end)
    |> Map.put(first, kept)
  end

  # Whether a map's column is that of `%` or of `{` depends on the version of Elixir.
  defp before_map(line, column) do
    if String.at(line, column) == "{", do: String.slice(line, 0, column - 1), else: String.slice(line, 0, column)
  end

  defp insert(more, {line, indent}, text) do
    written =
      for line <- text |> String.trim_trailing() |> String.split("\n"), do: if(line == "", do: "", else: indent <> line)

    Map.update(more, line, written ++ [""], &(&1 ++ written ++ [""]))
  end

  defp above_comments(line, lines) do
    [indent] = Regex.run(~r/\A\s*/, lines[line])
    first = line |> Stream.iterate(&(&1 - 1)) |> Enum.find(&(&1 == 1 or not comment?(lines[&1 - 1])))
    {first, indent}
  end

  defp comment?(line), do: line |> String.trim_leading() |> String.starts_with?("#")
end
