defmodule DSPexWorker.ReadmeTest do
  @moduledoc "The first call from Elixir on the front page of the repository, on real workers."

  use ExUnit.Case, async: false

  alias DSPexWorker.Stage

  @page Path.expand("../../../../README.md", __DIR__)
  @block ~r/^```elixir\n(.*?)^```\n```text\n(.*?)^```/ms
  @formatter Path.expand("../../.formatter.exs", __DIR__)

  setup do
    [[_all, code, shown]] = Regex.scan(@block, File.read!(@page))
    {:ok, code: code, shown: String.trim(shown)}
  end

  test "it is formatted", %{code: code} do
    {formatter, _binding} = Code.eval_file(@formatter)
    options = Keyword.take(formatter, [:line_length, :locals_without_parens])
    formatted = Code.format_string!(code, options)

    assert IO.iodata_to_binary(formatted) == String.trim_trailing(code)
  end

  @tag :integration
  test "it gives what stands below it", %{code: code, shown: shown} do
    beside = Stage.beside()
    System.put_env("DSPEX_AMQP_URL", beside[:url])
    on_exit(&forget/0)

    {value, _binding} =
      code
      |> String.replace("name: MyApp.LLM", "name: MyApp.LLM, namespace: #{inspect(beside[:namespace])}")
      |> Code.eval_string([], file: @page)

    assert inspect(value) == shown
  end

  # Other tests define a module of the same name.
  defp forget do
    System.delete_env("DSPEX_AMQP_URL")
    :code.purge(MyApp.Sentiment)
    :code.delete(MyApp.Sentiment)
  end
end
