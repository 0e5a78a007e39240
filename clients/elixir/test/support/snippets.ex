defmodule DSPexWorker.Snippets do
  @moduledoc false

  # Elixir of a page, compiled as a reader would: what uses other packages meets stand-ins that have their shape.

  import ExUnit.CaptureIO

  # Their callbacks are not checked.
  defmodule Behaviour do
    @moduledoc false

    defmacro __using__(_options) do
      quote do
        import DSPexWorker.Snippets.Behaviour, only: [test: 2, assert: 1, assert_receive: 1, perform_job: 2]
      end
    end

    defmacro test(name, do: block) do
      quote do: def(unquote(:"test #{name}")(), do: unquote(block))
    end

    defmacro assert(expression), do: quote(do: unquote(expression) || raise("not so"))
    defmacro assert_receive(pattern), do: quote(do: receive(do: (unquote(pattern) -> :ok)))
    def perform_job(worker, args), do: worker.perform(%{id: 1, args: args})
  end

  @stand_ins """
  defmodule Oban.Job, do: defstruct([:id, :args])
  defmodule Broadway.Message, do: defstruct([:data, metadata: %{}])
  """

  # What stands in a snippet without being made there.
  @free ~w(inputs)a

  @doc "Compiles a snippet, and returns what the compiler said of functions of ours that do not exist."
  def compile(code, page) do
    with_stand_ins(fn ->
      warnings =
        capture_io(:stderr, fn ->
          for {module, _binary} <- compile_kind(kind(code), code, page), do: unload(module)
        end)

      for line <- String.split(warnings, "\n"),
          line =~ ~r/DSPexWorker\S* is undefined|undefined .*DSPexWorker/,
          do: line
    end)
  end

  @doc "What a snippet is: `:config`, `:functions` of a module, tests among them, or modules and `:expressions`."
  def kind(code) do
    cond do
      code =~ ~r/\A(# config\/|import Config|config :)/ -> :config
      code =~ ~r/\Adefp? / -> :functions
      code =~ ~r/\Atest "/ -> :functions
      true -> :expressions
    end
  end

  defp compile_kind(:config, code, page) do
    code = if code =~ "import Config", do: code, else: "import Config\n" <> code
    [_ | _] = for env <- [:test, :prod], do: Config.Reader.eval!(page, code, env: env)
    []
  end

  defp compile_kind(:functions, code, page) do
    Code.compile_string("defmodule Snippet do\nuse DSPexWorker.Snippets.Behaviour\n#{code}\nend", page)
  end

  # Its modules, and behind them what it does, as a function that is not called.
  defp compile_kind(:expressions, code, page) do
    {modules, calls} = code |> outside() |> statements(page) |> Enum.split_while(&match?({:defmodule, _, _}, &1))
    free = for name <- @free, code =~ ~r/\b#{name}\b/, do: {name, [], nil}

    snippet =
      quote do
        defmodule Snippet do
          def run(unquote_splicing(free)), do: (unquote_splicing(calls))
        end
      end

    Enum.flat_map(modules ++ if(calls == [], do: [], else: [snippet]), &Code.compile_quoted(&1, page))
  end

  defp statements(code, page) do
    case Code.string_to_quoted!(code, file: page) do
      {:__block__, _meta, statements} -> statements
      statement -> [statement]
    end
  end

  # The compat project's macro is this one.
  defp outside(code) do
    code
    |> String.replace("use DSPex.Signature", "use DSPexWorker.Signature")
    |> String.replace(~r/use (Oban\.Worker|Broadway|ExUnit\.Case)\b/, "use #{inspect(Behaviour)}")
  end

  defp with_stand_ins(run) do
    stand_ins = Code.compile_string(@stand_ins)

    try do
      run.()
    after
      for {module, _binary} <- stand_ins, do: unload(module)
    end
  end

  defp unload(module) do
    :code.purge(module)
    :code.delete(module)
  end
end
