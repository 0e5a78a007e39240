defmodule DSPexWorker.Integration.AdapterTest do
  @moduledoc "DSPex's adapter behaviour, on real workers."

  # The adapter's client is named in the application's environment.
  use ExUnit.Case, async: false

  alias DSPexWorker.{Adapter, Client, Stage}
  alias DSPexWorker.TestSignatures.Sentiment

  @moduletag :integration

  setup do
    start_supervised!({Client, Stage.beside(name: __MODULE__.LLM)})
    Application.put_env(:dspex_worker, :client, __MODULE__.LLM)
    on_exit(fn -> Application.delete_env(:dspex_worker, :client) end)
  end

  defp own(name), do: "#{name}-#{System.os_time()}"

  test "a program is created, run, described and deleted, in DSPex's shapes" do
    id = own("adapter")

    assert Adapter.create_program(%{id: id, signature: Sentiment, modules: []}) == {:ok, id}
    assert {:ok, %{"outputs" => outputs}} = Adapter.execute_program(id, %{text: "I love it"})
    assert %{"sentiment" => sentiment, "confidence" => confidence} = outputs
    assert sentiment in ~w(positive negative neutral) and is_float(confidence)
    assert {:ok, ids} = Adapter.list_programs()
    assert id in ids
    assert {:ok, %{"id" => ^id, "execution_count" => _count}} = Adapter.get_program_info(id)
    assert Adapter.delete_program(id) == :ok
    assert Adapter.execute_program(id, %{text: "I love it"}) == {:error, "Program not found: #{id}"}
  end

  test "without an id, the same definition is the same program" do
    assert {:ok, "sig-" <> _hash = id} = Adapter.create_program(%{signature: Sentiment})
    assert Adapter.create_program(%{signature: Sentiment}) == {:ok, id}
  end

  test "what DSPex's own tests send is taken" do
    id = own("legacy")

    assert Adapter.create_program(%{id: id, signature: %{"inputs" => [], "outputs" => []}}) == {:ok, id}

    assert {:ok, %{"outputs" => %{"answer" => _text}}} =
             Adapter.execute_program(id, %{question: "What is 2+2?"}, %{timeout: 10_000, max_retries: 2})

    assert Adapter.health_check() == :ok
    assert {:ok, %{:adapter_type => :dspex_worker, "dspy_available" => true}} = Adapter.get_stats()
    assert {:error, reason} = Adapter.configure_lm(%{model: "gemini-1.5-flash", api_key: "none"})
    assert is_binary(reason)
  end
end
