defmodule DSPexWorker.Migrate do
  @moduledoc false

  # From DSPex's signatures to the DSL; `mix dspex_worker.migrate` reads and writes the files.

  alias DSPexWorker.Migrate.{Lines, Maps, Tree}

  @type file :: {path :: String.t(), source :: String.t()}
  @type outcome :: %{
          path: String.t(),
          source: String.t(),
          written: String.t(),
          left: [{line :: pos_integer, reason :: String.t()}]
        }

  @doc "Rewrites what is understood in all files at once: one may use what another one returns."
  @spec rewrite([file]) :: [outcome]
  def rewrite(files) do
    read = Enum.map(files, &read/1)
    calls = Enum.flat_map(read, fn file -> if file.tree, do: Maps.calls(file.tree), else: [] end)
    Enum.map(read, &write(&1, calls))
  end

  defp read({path, source}) do
    {lined, left} = Lines.rewrite(source)

    case Tree.parse(lined) do
      {:ok, tree} -> %{path: path, source: source, lined: lined, tree: tree, left: left}
      :error -> %{path: path, source: source, lined: lined, tree: nil, left: left}
    end
  end

  defp write(%{tree: nil} = file, _calls), do: unreadable(file)

  defp write(file, calls) do
    {written, left} = Maps.rewrite(file.lined, file.tree, calls)

    case Tree.parse(written) do
      {:ok, _tree} -> outcome(file, written, file.left ++ left)
      :error -> outcome(file, file.source, file.left ++ left ++ [{1, "what was written would not parse"}])
    end
  end

  # Lines that were understood stand by themselves; a file without any may be no Elixir at all.
  defp unreadable(%{source: source, lined: source} = file) do
    outcome(file, source, if(file.left == [], do: [{1, "it does not parse"}], else: file.left))
  end

  defp unreadable(file), do: outcome(file, file.lined, file.left)

  defp outcome(file, written, left), do: %{path: file.path, source: file.source, written: written, left: left}
end
