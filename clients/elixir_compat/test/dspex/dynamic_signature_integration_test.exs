defmodule DSPex.DynamicSignatureIntegrationTest do
  @moduledoc "The tests and examples of the plan as they stand there; only its signature lines are quoted, or a block."

  use DSPex.TestCase, async: false

  @moduletag :integration

  setup do
    # Enable dynamic signatures for tests
    Application.put_env(:dspex, :features, dynamic_signatures: true)
    :ok
  end

  # The workers outlive a test run.
  defp own(id), do: "#{id}-#{System.unique_integer([:positive])}-#{System.os_time()}"

  describe "sentiment analysis signature" do
    defmodule SentimentSignature do
      use DSPex.Signature
      @moduledoc "Analyzes sentiment of text"

      signature do
        input :text, :string
        output :sentiment, :string, one_of: ["positive", "negative", "neutral"]
        output :confidence, :float
      end
    end

    test "executes with proper field mapping" do
      # Create program
      {:ok, program_id} =
        DSPex.create_program(%{
          id: own("sentiment_test"),
          signature: SentimentSignature
        })

      # Execute with named input
      {:ok, result} =
        DSPex.execute_program(program_id, %{
          text: "I absolutely love this new feature!"
        })

      # Verify named outputs
      assert Map.has_key?(result, :sentiment)
      assert Map.has_key?(result, :confidence)
      assert result.sentiment in ["positive", "negative", "neutral"]
      assert is_float(result.confidence)
    end
  end

  describe "translation signature" do
    defmodule TranslationSignature do
      use DSPex.Signature
      signature "source_text: :string, target_language: :string -> translated_text: :string"
    end

    test "handles multiple inputs correctly" do
      {:ok, program_id} =
        DSPex.create_program(%{
          id: own("translation_test"),
          signature: TranslationSignature
        })

      {:ok, result} =
        DSPex.execute_program(program_id, %{
          source_text: "Hello world",
          target_language: "French"
        })

      assert Map.has_key?(result, :translated_text)
      assert is_binary(result.translated_text)
    end
  end

  # Before: Using Q&A format
  defmodule OldWay do
    def analyze_sentiment(text) do
      {:ok, result} = DSPex.execute(%{question: "What is the sentiment of: #{text}"})
      # Parse answer to extract sentiment
      parse_sentiment_from_answer(result.answer)
    end

    defp parse_sentiment_from_answer(answer), do: {:parsed, answer}
  end

  # After: Using dynamic signatures
  defmodule NewWay do
    defmodule SentimentSignature do
      use DSPex.Signature
      signature "text: :string -> sentiment: :string, confidence: :float"
    end

    def analyze_sentiment(text) do
      {:ok, program_id} = DSPex.create_program(%{signature: SentimentSignature})
      {:ok, result} = DSPex.execute_program(program_id, %{text: text})
      # Direct access to structured output
      {result.sentiment, result.confidence}
    end
  end

  describe "migration examples" do
    test "before: question and answer" do
      assert {:parsed, answer} = OldWay.analyze_sentiment("I love it")
      assert is_binary(answer)
    end

    test "after: structured output" do
      assert {sentiment, confidence} = NewWay.analyze_sentiment("I love it")
      assert is_binary(sentiment)
      assert is_float(confidence)
    end
  end

  describe "programs of the benchmark" do
    test "legacy and dynamic ones run beside each other" do
      {:ok, legacy} =
        DSPex.create_program(%{id: own("legacy_qa"), signature: "question -> answer"}, dynamic_signatures: false)

      {:ok, dynamic} =
        DSPex.create_program(%{id: own("dynamic_sig"), signature: __MODULE__.SentimentSignature},
          dynamic_signatures: true
        )

      {:ok, off} =
        DSPex.create_program(%{id: own("off"), signature: __MODULE__.SentimentSignature}, dynamic_signatures: false)

      assert {:ok, %{answer: _}} = DSPex.execute_program(legacy, %{question: "What is the meaning of life?"})
      assert {:ok, %{sentiment: _}} = DSPex.execute_program(dynamic, %{text: "What is the meaning of life?"})
      assert {:ok, %{answer: _}} = DSPex.execute_program(off, %{text: "What is the meaning of life?"})
    end
  end

  test "quick start" do
    defmodule MySignature do
      use DSPex.Signature
      signature "input_text: :string -> category: :string, score: :float"
    end

    {:ok, prog} = DSPex.create_program(%{signature: MySignature})
    {:ok, result} = DSPex.execute_program(prog, %{input_text: "Hello"})

    assert %{category: category, score: score} = result
    assert is_binary(category) and is_float(score)
  end

  test "a program is found, listed and deleted" do
    id = own("listed")
    {:ok, ^id} = DSPex.create_program(%{id: id, signature: "text -> label"})

    assert {:ok, ids} = DSPex.list_programs()
    assert id in ids
    assert {:ok, %{id: ^id}} = DSPex.get_program_info(id)
    assert DSPex.delete_program(id) == :ok
    assert DSPex.execute_program(id, %{text: "Hello"}) == {:error, "Program not found: #{id}"}
  end
end
