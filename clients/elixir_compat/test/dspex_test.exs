defmodule DSPexTest do
  use DSPex.TestCase, async: false

  import ExUnit.CaptureLog

  alias DSPexWorker.Test, as: Stub

  defmodule SentimentSignature do
    use DSPex.Signature
    @moduledoc "Analyzes sentiment of text"
    signature "text: :string -> sentiment: :string, confidence: :float"
  end

  @warning "Q&A signature format is deprecated. Please use DSPex.Signature modules."

  # What a worker answers to create_program; what was sent comes to the test.
  defp creates(result) do
    test = self()

    Stub.stub_command("create_program", fn arguments ->
      send(test, {:created, arguments})
      Map.merge(%{"program_id" => "p", "status" => "created", "warnings" => []}, result)
    end)
  end

  test "a program's results have the keys of its signature" do
    Stub.stub(SentimentSignature, fn %{text: _text} -> %{sentiment: "positive", confidence: 0.9} end)

    assert {:ok, "sentiment" = id} = DSPex.create_program(%{id: "sentiment", signature: SentimentSignature})
    assert DSPex.execute_program(id, %{text: "I love it"}) == {:ok, %{sentiment: "positive", confidence: 0.9}}
    assert DSPex.execute_program(id, %{text: "I love it"}, temperature: 0.2) |> elem(0) == :ok
  end

  test "a program is the same with strings as keys" do
    Stub.stub(SentimentSignature, fn %{text: _text} -> %{sentiment: "positive", confidence: 0.9} end)

    assert {:ok, "strings" = id} = DSPex.create_program(%{"id" => "strings", "signature" => SentimentSignature})
    assert DSPex.execute_program(id, %{text: "I love it"}) == {:ok, %{sentiment: "positive", confidence: 0.9}}
  end

  test "a program of somebody else has strings as keys" do
    Stub.stub("theirs", fn %{"text" => _text} -> %{"label" => "good"} end)

    assert DSPex.execute_program("theirs", %{text: "I love it"}) == {:ok, %{"label" => "good"}}
  end

  test "a program that is deleted is forgotten" do
    creates(%{"is_dynamic" => true})
    assert {:ok, "p"} = DSPex.create_program(%{signature: SentimentSignature})
    Stub.stub_command("delete_program", fn %{"program_id" => "p"} -> %{"status" => "deleted"} end)

    assert DSPex.delete_program("p") == :ok
    assert DSPexWorkerCompat.Programs.get("p") == nil
  end

  test "inputs are checked, and reasons are text" do
    creates(%{"is_dynamic" => true})
    {:ok, id} = DSPex.create_program(%{signature: SentimentSignature})

    assert DSPex.execute_program(id, %{}) == {:error, "Missing required field: text"}
  end

  describe "the flag" do
    test "is not sent where nobody set it: the workers decide" do
      creates(%{"is_dynamic" => true})
      assert {:ok, "p"} = DSPex.create_program(%{signature: SentimentSignature})

      assert_received {:created, arguments}
      refute Map.has_key?(arguments, "use_dynamic_signature")
    end

    test "is sent as configured, unless the call says it" do
      creates(%{"is_dynamic" => true})

      for {configured, options, sent} <- [
            {true, [], true},
            {false, [], false},
            {true, [dynamic_signatures: false], false}
          ] do
        Application.put_env(:dspex, :features, dynamic_signatures: configured)
        assert {:ok, "p"} = DSPex.create_program(%{signature: SentimentSignature}, options)
        assert_received {:created, %{"use_dynamic_signature" => ^sent}}
      end
    end

    test "off, every program answers a question" do
      Application.put_env(:dspex, :features, dynamic_signatures: false)
      creates(%{"is_dynamic" => false})
      Stub.stub("p", fn _inputs -> %{"answer" => "It is positive"} end)
      {:ok, id} = DSPex.create_program(%{signature: SentimentSignature})

      assert DSPex.execute_program(id, %{text: "I love it"}) == {:ok, %{answer: "It is positive"}}
    end
  end

  describe "question and answer" do
    test "is created with a warning, and sent as the text that the workers know it by" do
      creates(%{"is_dynamic" => false})
      Stub.stub("p", fn %{"question" => _text} -> %{"answer" => "42"} end)

      for arguments <- [
            %{signature: "question -> answer"},
            %{id: "legacy_qa"},
            %{signature: %{inputs: [], outputs: []}}
          ] do
        assert capture_log(fn -> assert {:ok, "p"} = DSPex.create_program(arguments) end) =~ @warning
        assert_received {:created, %{"signature" => "question -> answer"}}
      end

      assert DSPex.execute_program("p", %{question: "What is the meaning of life?"}) == {:ok, %{answer: "42"}}
    end

    test "with typed fields is a signature like any other" do
      creates(%{"is_dynamic" => true})

      assert capture_log(fn -> DSPex.create_program(%{signature: "question: string -> answer: integer"}) end) == ""
    end
  end

  test "without a client it says what to configure" do
    Application.delete_env(:dspex_worker, :client)

    assert_raise ArgumentError, ~r/config :dspex_worker, client:/, fn -> DSPex.execute_program("p", %{}) end
  end
end
