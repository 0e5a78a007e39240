defmodule DSPexWorker.Migrate.Diff do
  @moduledoc false

  # The lines that differ, with a few around them.

  @around 2

  @type part :: {:del | :ins | :eq | :skip, String.t()}

  @doc "The lines of both sources, in order; long runs of equal ones are one `:skip`."
  @spec parts(String.t(), String.t()) :: [part]
  def parts(before, after_) do
    runs = List.myers_difference(String.split(before, "\n"), String.split(after_, "\n"))
    last = length(runs) - 1
    runs |> Enum.with_index() |> Enum.flat_map(fn {run, index} -> lines(run, index == 0, index == last) end)
  end

  defp lines({:eq, lines}, true, true), do: lines |> Enum.take(0) |> tagged(:eq)
  defp lines({:eq, lines}, true, _last), do: skip(lines, 0, @around)
  defp lines({:eq, lines}, _first, true), do: skip(lines, @around, 0)
  defp lines({:eq, lines}, _first, _last), do: skip(lines, @around, @around)
  defp lines({kind, lines}, _first, _last), do: tagged(lines, kind)

  defp skip(lines, head, tail) do
    if length(lines) <= head + tail + 1,
      do: tagged(lines, :eq),
      else: tagged(Enum.take(lines, head), :eq) ++ [{:skip, "…"}] ++ tagged(Enum.take(lines, -tail), :eq)
  end

  defp tagged(lines, kind), do: Enum.map(lines, &{kind, &1})
end
