defmodule Mix.Tasks.DspexWorker.Migrate do
  @shortdoc "Rewrites DSPex's signatures into the DSL of DSPexWorker"

  @moduledoc """
  Rewrites DSPex's signatures into the DSL of `DSPexWorker.Signature`.

      mix dspex_worker.migrate [PATHS] [--dry-run] [--check]

  Paths are files and folders; without any, `lib`, `test` and `examples`. The differences are shown and written.

    * `--dry-run` - shows them, and writes nothing
    * `--check` - the same, and fails if there are any

  Two things are rewritten:

  A line of DSPex's DSL, which never parsed as Elixir, becomes a block, and its module uses `DSPexWorker.Signature`:

      use DSPex.Signature
      signature text: :string -> sentiment: :string, confidence: :float

  A literal map becomes a module, named after its `name`, else after what it is bound to or the program's id:

      DSPex.create_program(%{
        signature: %{
          name: "QuestionAnswer",
          inputs: [%{name: "question", type: "string"}],
          outputs: [%{name: "answer", type: "string"}]
        }
      })

  but only where nothing else happens to it than that it is given on as a `signature:`, directly, in a variable, or as
  what a function without arguments returns. Callers of such a function are looked for in all files that are given.

  What is not understood is left as it is, and named with its line and the reason. Each rewritten signature is read back
  and means what it meant. Everything else in a file stays as it was written; `mix format` does the rest.

  Results change with it: those of a signature module have atoms as keys. The guide "From DSPex's port" says what else.
  """

  use Mix.Task

  alias DSPexWorker.Migrate
  alias DSPexWorker.Migrate.Diff

  @switches [dry_run: :boolean, check: :boolean]
  @default_paths ["lib", "test", "examples"]

  @impl Mix.Task
  def run(arguments) do
    {options, paths} = OptionParser.parse!(arguments, strict: @switches)
    outcomes = paths |> files() |> Enum.map(&{&1, File.read!(&1)}) |> Migrate.rewrite()
    changed = Enum.filter(outcomes, &(&1.written != &1.source))

    Enum.each(changed, &show/1)
    for outcome <- outcomes, {line, reason} <- outcome.left, do: tell(outcome.path, line, reason)
    unless options[:dry_run] || options[:check], do: Enum.each(changed, &File.write!(&1.path, &1.written))
    finish(length(changed), options)
  end

  defp files([]), do: @default_paths |> Enum.filter(&File.dir?/1) |> files_of()
  defp files(paths), do: files_of(paths)

  defp files_of(paths), do: paths |> Enum.flat_map(&files_at/1) |> Enum.uniq() |> Enum.sort()

  defp files_at(path) do
    cond do
      File.dir?(path) -> Path.wildcard(Path.join(path, "**/*.{ex,exs}"))
      File.regular?(path) -> [path]
      true -> Mix.raise("#{path} is no file and no folder")
    end
  end

  defp show(outcome) do
    shell = Mix.shell()
    shell.info([:bright, outcome.path, :reset])
    for part <- Diff.parts(outcome.source, outcome.written), do: shell.info(line(part))
  end

  defp line({:del, text}), do: [:red, "- ", text, :reset]
  defp line({:ins, text}), do: [:green, "+ ", text, :reset]
  defp line({_equal, text}), do: ["  ", text]

  defp tell(path, line, reason), do: Mix.shell().info([:yellow, "#{path}:#{line}: left as it is: #{reason}", :reset])

  defp finish(0, _options), do: Mix.shell().info("Nothing to rewrite")

  defp finish(count, options) do
    cond do
      options[:check] -> Mix.raise("#{files(count, "has", "have")} signatures of DSPex: run mix dspex_worker.migrate")
      options[:dry_run] -> Mix.shell().info("#{files(count, "would", "would")} be rewritten")
      true -> Mix.shell().info("#{files(count, "was", "were")} rewritten")
    end
  end

  defp files(1, one, _many), do: "1 file #{one}"
  defp files(count, _one, many), do: "#{count} files #{many}"
end
