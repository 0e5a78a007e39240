defmodule DSPexWorkerCompat.DocsTest do
  @moduledoc "The Elixir of the README runs, and its configuration is read."

  # Its module has the name that a reader would take.
  use DSPex.TestCase, async: false

  alias DSPexWorker.Test, as: Stub

  @root Path.expand("..", __DIR__)
  @signature %{
    name: "Elixir.SentimentSignature",
    inputs: [text: :string],
    outputs: [sentiment: :string, confidence: :float]
  }

  setup do
    blocks = Regex.scan(~r/^```elixir\n(.*?)^```/ms, File.read!(@root <> "/README.md"), capture: :all_but_first)
    {:ok, blocks: List.flatten(blocks)}
  end

  test "its dependency is this project, from where it is", %{blocks: [deps | _more]} do
    [_all, path] = Regex.run(~r/\{:dspex_worker_compat, path: "([^"]+)"\}/, deps)

    assert Path.expand(path, Path.expand("../..", @root)) == @root
    assert {:def, _meta, _definition} = Code.string_to_quoted!(deps)
  end

  test "its configuration is read", %{blocks: [_deps, config | _more]} do
    url = System.get_env("AMQP_URL")
    if url == nil, do: System.put_env("AMQP_URL", "amqp://localhost")
    read = Config.Reader.eval!("README.md", "import Config\n" <> config)
    if url == nil, do: System.delete_env("AMQP_URL")

    assert [url: "amqp://" <> _host] = read[:dspex_worker_compat][:client]
    assert is_boolean(read[:dspex][:features][:dynamic_signatures])
  end

  test "its example runs", %{blocks: [_deps, _config, example]} do
    {:__block__, _meta, [module | calls]} = Code.string_to_quoted!(example)
    Stub.stub(@signature, fn %{text: _text} -> %{sentiment: "positive", confidence: 0.9} end)
    {{:module, name, _code, _value}, _binding} = Code.eval_quoted(module)
    {value, _binding} = Code.eval_quoted({:__block__, [], calls})
    :code.purge(name)
    :code.delete(name)

    assert value == {"positive", 0.9}
  end
end
