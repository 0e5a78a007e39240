defmodule DSPexWorker.DocsTest do
  @moduledoc "The pages say what the code does: their Elixir parses, what is marked runs, and their tables are the code's."

  # Modules of the pages have the names that a reader would take.
  use ExUnit.Case, async: false

  alias DSPexWorker.{Client, Error, Result, Snippets, Stage}
  alias DSPexWorker.Test, as: Stub

  @root Path.expand("..", __DIR__)
  @pages ["README.md", "../elixir_compat/README.md"] ++
           for(page <- ~w(from_dspex_port oban broadway), do: "guides/#{page}.md")
  @offline "Made up by the offline stand-in (DSPEX_LM_MODEL=offline): no model was asked"
  @block ~r/^(<!-- run -->\n)?```elixir\n(.*?)^```\n(?:```text\n(.*?)^```)?/ms

  defp read(page), do: File.read!(Path.join(@root, page))

  defp blocks(page) do
    for [_all, mark, code | shown] <- Regex.scan(@block, read(page)), do: {mark != "", code, List.first(shown)}
  end

  for page <- @pages do
    test "the Elixir of #{page} parses, and is formatted" do
      for {_run?, code, _shown} <- blocks(unquote(page)) do
        formatted = Code.format_string!(code, formatter())

        assert IO.iodata_to_binary(formatted) == String.trim_trailing(code)
      end
    end

    test "the links of #{page} lead somewhere" do
      for [_all, link] <- Regex.scan(~r/\]\(([^)\s]+)\)/, read(unquote(page))), not String.contains?(link, "://") do
        [path | anchor] = String.split(link, "#")
        target = if path == "", do: unquote(page), else: Path.join(Path.dirname(unquote(page)), path)

        assert File.exists?(Path.join(@root, target)), link
        assert anchor == [] or hd(anchor) in anchors(target), link
      end
    end
  end

  # The compat project has what its own page uses, and a test of its own.
  for page <- @pages -- ["../elixir_compat/README.md"] do
    test "the Elixir of #{page} that is not run compiles, and calls no function that does not exist" do
      known_url(fn ->
        for {false, code, _shown} <- blocks(unquote(page)) do
          assert {code, Snippets.compile(code, unquote(page))} == {code, []}
        end
      end)
    end
  end

  test "a snippet that calls a function of ours that does not exist is found" do
    for code <- ["DSPexWorker.predikt(1)", "defmodule Wrong do\n  def run, do: DSPexWorker.predict(1)\nend"] do
      assert [_warning | _] = Snippets.compile(code, "page.md")
    end
  end

  # As where the pages' configuration is read.
  defp known_url(run) do
    url = System.get_env("AMQP_URL")
    if url == nil, do: System.put_env("AMQP_URL", "amqp://localhost")
    run.()
    if url == nil, do: System.delete_env("AMQP_URL")
  end

  test "the README installs this project from where it is, and packages that it takes" do
    {_run?, code, _shown} = "README.md" |> blocks() |> Enum.find(fn {_run?, code, _shown} -> code =~ "def deps" end)
    [{:dspex_worker, path: path} | packages] = installed(code)
    mix = File.read!(Path.join(@root, "mix.exs"))

    assert Path.expand(path, Path.expand("../..", @root)) == @root

    for {name, "~> " <> version} <- packages do
      [_all, taken] = Regex.run(~r/\{:#{name}, "([^"]+)"/, mix)
      assert Version.match?(version <> ".0", taken)
    end
  end

  defp installed(code) do
    [{module, _binary}] = Code.compile_string("defmodule Installed do\n#{code}\nend")
    deps = module.deps()
    unload(module)
    deps
  end

  describe "what is marked" do
    setup context do
      options = if context[:integration], do: Stage.beside(), else: [transport: Stub]
      start_supervised!({Client, [name: MyApp.LLM] ++ options})
      loaded = :code.all_loaded() |> MapSet.new(&elem(&1, 0))

      on_exit(fn ->
        for {module, path} <- :code.all_loaded(), module not in loaded, path == [], do: unload(module)
      end)
    end

    test "in the README runs, and gives what is shown" do
      run("README.md")
    end

    @tag :integration
    test "in the README gives what is shown on real workers too" do
      run("README.md")
    end

    test "in the guide from DSPex's port runs, before and after" do
      run("guides/from_dspex_port.md")

      Stub.stub("question -> answer", fn %{"question" => _text} -> %{"answer" => "Quite Positive"} end)
      assert call(OldWay) == "positive"

      Stub.stub(NewWay.Sentiment, fn %{text: "I love it"} -> %{sentiment: "positive", confidence: 0.93} end)
      assert call(NewWay) == {"positive", 0.93}
    end
  end

  # Not there when this file is compiled.
  defp call(module), do: apply(module, :analyze_sentiment, ["I love it"])

  test "the table of errors has each code, and no other" do
    [table] = Regex.run(~r/^\| Code \| What to do \|\n.*?\n\n/ms, read("README.md"))
    named = for [_all, code] <- Regex.scan(~r/`:(\w+)`/, first_cells(table)), do: code

    assert Enum.sort(named) == Error.codes() |> Enum.map(&Atom.to_string/1) |> Enum.sort()
  end

  test "the table of telemetry is that of its module" do
    {:docs_v1, _, _, _, %{"en" => documentation}, _, _} = Code.fetch_docs(DSPexWorker.Telemetry)
    [table] = Regex.run(~r/^\| event \|.*?\n\n/ms, documentation)

    assert read("README.md") =~ table
  end

  defp first_cells(table) do
    table |> String.split("\n", trim: true) |> Enum.map_join(&(&1 |> String.split("|") |> Enum.at(1)))
  end

  defp anchors(page) do
    for [_all, heading] <- Regex.scan(~r/^#+ (.+)$/m, read(page)) do
      heading |> String.downcase() |> String.replace(~r/[^\w\- ]/u, "") |> String.replace(" ", "-")
    end
  end

  defp formatter do
    {formatter, _binding} = Code.eval_file(Path.join(@root, ".formatter.exs"))
    Keyword.take(formatter, [:line_length, :locals_without_parens])
  end

  defp run(page) do
    for {true, code, shown} <- blocks(page), reduce: [] do
      binding ->
        {value, binding} = Code.eval_string(code, binding, file: page)
        if shown not in [nil, ""], do: assert_shown(shown, value)
        answer(MyApp.Sentiment)
        binding
    end
  end

  # What is shown may leave out parts of maps and structs.
  defp assert_shown(shown, value) do
    {matches?, _binding} = Code.eval_string("match?(#{String.trim(shown)}, value)", value: value)
    assert matches?, "the page shows #{shown}, but it is #{inspect(value)}"
  end

  # As the offline LM does.
  defp answer(module) do
    if Code.ensure_loaded?(module) do
      Stub.stub(module, fn %{text: _text} ->
        %Result{outputs: %{sentiment: "positive", confidence: 0.87}, usage: %{lm_calls: 1}, warnings: [@offline]}
      end)
    end
  end

  defp unload(module) do
    :code.purge(module)
    :code.delete(module)
  end
end
