defmodule DSPexWorker.AdapterTest do
  # The adapter's client is named in the application's environment.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias DSPexWorker.{Adapter, Await, Client, FakeBroker}
  alias DSPexWorker.TestSignatures.Sentiment

  doctest Adapter

  # DSPex.Adapters.Adapter at commit 1e5bf980, optional ones included.
  @callbacks [
    create_program: 1,
    execute_program: 2,
    execute_program: 3,
    list_programs: 0,
    delete_program: 1,
    get_program_info: 1,
    health_check: 0,
    get_stats: 0,
    configure_lm: 1,
    supports_test_layer?: 1,
    get_test_capabilities: 0
  ]

  defmodule OfDSPex do
    @moduledoc false
    # What DSPex's own DSL exports.
    def __signature__, do: %{inputs: [{:text, :string, []}], outputs: [{:score, :probability, []}], module: __MODULE__}
  end

  setup do
    broker = start_supervised!({FakeBroker, self()})
    options = [name: __MODULE__.LLM, url: FakeBroker.url(broker), transport: FakeBroker]
    client = start_supervised!({Client, options})
    # What times out before there is a connection is another error.
    Await.status(client, &(&1.connection == :up))
    Application.put_env(:dspex_worker, :client, __MODULE__.LLM)
    on_exit(fn -> Application.delete_env(:dspex_worker, :client) end)
    {:ok, broker: broker}
  end

  defp answers(broker, reply), do: FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(reply) end)
  defp succeeds(broker, result), do: answers(broker, %{"success" => true, "result" => result})

  defp fails(broker, code, text) do
    detail = %{"code" => code, "message" => text, "recoverable" => false, "problems" => []}
    answers(broker, %{"success" => false, "error" => text, "error_detail" => detail})
  end

  defp sent do
    assert_receive {:published, message}
    FakeBroker.decode(message)
  end

  test "it has every callback of DSPex's adapter behaviour" do
    Code.ensure_loaded!(Adapter)

    assert Enum.reject(@callbacks, fn {name, arity} -> function_exported?(Adapter, name, arity) end) == []
  end

  describe "create_program/1" do
    setup %{broker: broker}, do: succeeds(broker, %{"program_id" => "sig-1", "status" => "created"})

    test "sends a module's whole definition, and no id of its own" do
      assert Adapter.create_program(%{signature: Sentiment, modules: [], session_id: "s"}) == {:ok, "sig-1"}

      assert %{"command" => "create_program", "args" => %{"signature" => signature} = args} = sent()
      assert Map.keys(args) == ["fallback", "signature"]
      assert args["fallback"] == "never"
      assert signature["description"] == "Detects the sentiment of a text"
      assert [%{"constraints" => %{"enum" => ["positive" | _]}}, %{"type" => "float"}] = signature["outputs"]
    end

    test "takes a module in DSPex's shape, and keeps the id that is given" do
      assert {:ok, "sig-1"} = Adapter.create_program(%{"id" => "p", "signature" => OfDSPex})

      assert %{"args" => %{"id" => "p", "signature" => %{"name" => "Elixir.DSPexWorker.AdapterTest.OfDSPex"}}} = sent()
    end

    test "an empty id is none" do
      assert {:ok, "sig-1"} = Adapter.create_program(%{id: "", signature: "text -> label"})

      refute Map.has_key?(sent()["args"], "id")
    end

    test "leaves to the worker what declares nothing or cannot be read" do
      for signature <- [%{"inputs" => [], "outputs" => []}, "question -> answer", %{"inputs" => [%{"name" => "a"}]}] do
        assert {:ok, "sig-1"} = Adapter.create_program(%{signature: signature})
        assert sent()["args"]["signature"] == signature
      end
    end

    test "sends the policy that is asked for" do
      for policy <- [:create, "create"] do
        assert {:ok, "sig-1"} = Adapter.create_program(%{signature: Sentiment, fallback: policy})
        assert sent()["args"]["fallback"] == "create"
      end
    end
  end

  describe "execute_program/2,3" do
    @result %{
      "program_id" => "p",
      "outputs" => %{"sentiment" => "positive", "confidence" => 0.9},
      "is_dynamic" => true,
      "fallback_used" => false,
      "execution_time" => 0.1
    }

    test "returns the worker's result with string keys and the outputs inside", %{broker: broker} do
      succeeds(broker, @result)

      assert Adapter.execute_program("p", %{text: "I love it"}) == {:ok, @result}
      assert %{"command" => "execute_program", "args" => args} = sent()
      assert args["inputs"] == %{"text" => "I love it"}
    end

    test "takes options as a map or a keyword list, and passes on what it does not know", %{broker: broker} do
      succeeds(broker, @result)

      for options <- [%{temperature: 0.2, max_retries: 2}, [temperature: 0.2, max_retries: 2, session_id: "s"]] do
        assert {:ok, @result} = Adapter.execute_program("p", %{text: "a"}, options)
        assert sent()["args"]["options"] == %{"fallback" => "never", "temperature" => 0.2, "max_retries" => 2}
      end
    end

    test "a time-out is the call's, and a reason of its own" do
      capture_log(fn -> assert Adapter.execute_program("p", %{}, %{timeout: 20}) == {:error, :timeout} end)
    end

    test "question and answer that nobody asked for is an error", %{broker: broker} do
      succeeds(broker, %{@result | "outputs" => %{"answer" => "good"}, "fallback_used" => true})

      assert {:error, "Question and answer ran" <> _reason} = Adapter.execute_program("p", %{})
      assert {:ok, %{"outputs" => %{"answer" => "good"}}} = Adapter.execute_program("p", %{}, fallback: "execute")
    end

    test "a worker's error is the string that DSPex matches on", %{broker: broker} do
      fails(broker, "program_not_found", "Program not found: p")

      assert Adapter.execute_program("p", %{}) == {:error, "Program not found: p"}
      assert Adapter.delete_program("p") == {:error, "Program not found: p"}
    end

    test "nobody there is :connection_failed, and the log says who", %{broker: broker} do
      FakeBroker.set_consumers(broker, "dspex.execute", {:ok, 0})

      assert capture_log(fn ->
               assert Adapter.execute_program("p", %{}) == {:error, :connection_failed}
             end) =~ "No worker consumes dspex.execute"
    end
  end

  describe "the other callbacks" do
    test "list the ids of programs", %{broker: broker} do
      succeeds(broker, %{"programs" => [%{"id" => "a"}, %{"id" => "b"}], "total_count" => 2})

      assert Adapter.list_programs() == {:ok, ["a", "b"]}
    end

    test "list them all, however many fit into one reply", %{broker: broker} do
      all = for number <- 1..2_500, do: "p#{number}"

      FakeBroker.answer_with(broker, fn message ->
        offset = FakeBroker.decode(message)["args"]["offset"] || 0
        page = for id <- Enum.slice(all, offset, 1_000), do: %{"id" => id}
        FakeBroker.encode(%{"success" => true, "result" => %{"programs" => page, "total_count" => length(all)}})
      end)

      assert Adapter.list_programs() == {:ok, all}
    end

    test "list what is there, where programs are deleted meanwhile", %{broker: broker} do
      FakeBroker.answer_with(broker, fn message ->
        page = if FakeBroker.decode(message)["args"]["offset"] in [nil, 0], do: [%{"id" => "a"}], else: []
        FakeBroker.encode(%{"success" => true, "result" => %{"programs" => page, "total_count" => 2}})
      end)

      assert Adapter.list_programs() == {:ok, ["a"]}
    end

    test "delete a program", %{broker: broker} do
      succeeds(broker, %{"program_id" => "a", "status" => "deleted"})

      assert Adapter.delete_program("a") == :ok
    end

    test "tell of a program, its id under both keys", %{broker: broker} do
      succeeds(broker, %{"program_id" => "a", "execution_count" => 3})

      assert {:ok, %{:id => "a", "id" => "a", "execution_count" => 3}} = Adapter.get_program_info("a")
    end

    test "say whether a worker answers", %{broker: broker} do
      succeeds(broker, %{"status" => "ok"})
      assert Adapter.health_check() == :ok

      succeeds(broker, %{"status" => "ill"})
      assert Adapter.health_check() == {:error, :unhealthy}
    end

    test "give the figures, and what this adapter is", %{broker: broker} do
      succeeds(broker, %{"programs_count" => 1})

      assert {:ok, %{:adapter_type => :dspex_worker, :layer => :layer_3, "programs_count" => 1}} = Adapter.get_stats()
    end

    test "never send a key", %{broker: broker} do
      succeeds(broker, %{"status" => "configured"})

      assert Adapter.configure_lm(%{model: "fast", api_key: "secret", temperature: 0.5}) == :ok
      assert sent()["args"] == %{"model" => "fast", "temperature" => 0.5}

      fails(broker, "not_permitted", "LMs are configured by the operator")
      assert Adapter.configure_lm(%{model: "other"}) == {:error, "LMs are configured by the operator"}
    end

    test "declare the third test layer" do
      assert Enum.map([:layer_1, :layer_2, :layer_3], &Adapter.supports_test_layer?/1) == [false, false, true]
      assert %{python_execution: true, performance: :slowest} = Adapter.get_test_capabilities()
    end
  end

  test "without a client's name it says what to configure" do
    Application.delete_env(:dspex_worker, :client)

    assert_raise ArgumentError, ~r/config :dspex_worker, client: MyApp.LLM/, &Adapter.health_check/0
  end
end
