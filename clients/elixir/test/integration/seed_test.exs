defmodule DSPexWorker.Integration.SeedTest do
  @moduledoc "The examples of the plan that dynamic signatures began with, end to end."

  use ExUnit.Case, async: true

  alias DSPexWorker.{Client, Error, Stage}

  @moduletag :integration

  defmodule SentimentSignature do
    @moduledoc "Analyzes sentiment of text"
    use DSPexWorker.Signature

    signature do
      input :text, :string
      output :sentiment, :string, one_of: ~w(positive negative neutral)
      output :confidence, :float
    end
  end

  defmodule QuotedSentimentSignature do
    @moduledoc "Analyzes sentiment of text"
    use DSPexWorker.Signature

    signature "text: :string -> sentiment: :string, confidence: :float"
  end

  setup_all do
    {:ok, client: start_supervised!({Client, Stage.beside()})}
  end

  defp own(name), do: "#{name}-#{System.unique_integer([:positive])}"

  describe "sentiment analysis signature" do
    test "executes with proper field mapping", %{client: client} do
      {:ok, program} = DSPexWorker.create_program(client, SentimentSignature, id: own("sentiment_test"))

      {:ok, result} = DSPexWorker.execute(client, program, %{text: "I absolutely love this new feature!"})

      assert Map.keys(result) |> Enum.sort() == [:confidence, :sentiment]
      assert result.sentiment in ["positive", "negative", "neutral"]
      assert is_float(result.confidence)
    end

    test "may be the seed's line in quotes", %{client: client} do
      {:ok, program} = DSPexWorker.create_program(client, QuotedSentimentSignature, id: own("sentiment_test"))

      {:ok, result} = DSPexWorker.execute(client, program, %{text: "I absolutely love this new feature!"})

      assert %{sentiment: sentiment, confidence: confidence} = result
      assert is_binary(sentiment)
      assert is_float(confidence)
    end

    test "runs by the program's id alone, with string keys", %{client: client} do
      id = own("sentiment_test")
      {:ok, _program} = DSPexWorker.create_program(client, SentimentSignature, id: id)

      assert {:ok, %{"sentiment" => _sentiment, "confidence" => _confidence}} =
               DSPexWorker.execute(client, id, %{text: "I love it"})

      assert {:ok, %{sentiment: _}} =
               DSPexWorker.execute(client, id, %{text: "I love it"}, signature: SentimentSignature)
    end

    test "validates required fields before anything is sent", %{client: client} do
      assert {:error, %Error{code: :invalid_inputs, field: "text"} = error} =
               DSPexWorker.predict(client, SentimentSignature, %{})

      assert error.message == "Missing required field: text"
      assert {:ok, %{text: "hello"}} = SentimentSignature.validate_inputs(%{text: "hello"})
    end
  end

  describe "translation signature" do
    defmodule TranslationSignature do
      @moduledoc false
      use DSPexWorker.Signature

      signature "source_text: :string, target_language: :string -> translated_text: :string"
    end

    test "handles multiple inputs correctly", %{client: client} do
      {:ok, program} = DSPexWorker.create_program(client, TranslationSignature, id: own("translation_test"))

      {:ok, result} = DSPexWorker.execute(client, program, %{source_text: "Hello world", target_language: "French"})

      assert Map.has_key?(result, :translated_text)
      assert is_binary(result.translated_text)
    end
  end

  describe "migration" do
    # Before: question and answer, and a text to take apart.
    defmodule OldWay do
      def analyze_sentiment(client, text) do
        question = "What is the sentiment of: #{text}"
        {:ok, result} = DSPexWorker.predict(client, "question -> answer", %{question: question})
        result["answer"]
      end
    end

    # After: a signature.
    defmodule NewWay do
      defmodule SentimentSignature do
        @moduledoc false
        use DSPexWorker.Signature

        signature (text: :string -> [sentiment: :string, confidence: :float])
      end

      def analyze_sentiment(client, text) do
        {:ok, program} = DSPexWorker.create_program(client, SentimentSignature)
        {:ok, result} = DSPexWorker.execute(client, program, %{text: text})
        {result.sentiment, result.confidence}
      end
    end

    test "before: question and answer still works", %{client: client} do
      assert OldWay.analyze_sentiment(client, "I love it") |> is_binary()
    end

    test "after: outputs are there by name, and a program without an id is one program however often", %{client: client} do
      assert {sentiment, confidence} = NewWay.analyze_sentiment(client, "I love it")
      assert is_binary(sentiment) and is_float(confidence)
      assert NewWay.analyze_sentiment(client, "I love it") == {sentiment, confidence}
    end
  end

  test "quick start: category and score", %{client: client} do
    signature = "input_text: :string -> category: :string, score: :float"

    assert {:ok, %{"category" => category, "score" => score}} =
             DSPexWorker.predict(client, signature, %{input_text: "Hello"})

    assert is_binary(category) and is_float(score)
  end

  test "a fallback that nobody asked for is an error; one that was asked for says so", %{client: client} do
    inputs = %{text: "I love it"}
    broken = %{"inputs" => [%{"name" => "text"}], "outputs" => [%{"name" => "label", "type" => "strng"}]}

    assert {:error, %Error{code: :unknown_type}} = DSPexWorker.predict(client, broken, inputs)

    assert {:ok, %{fallback_used: true, outputs: %{"answer" => _text}}} =
             DSPexWorker.predict(client, broken, inputs, fallback: :create, full: true)
  end

  test "a thousand calls at once are answered by one client", %{client: client} do
    texts = Stream.map(1..1_000, &%{text: "text #{&1}"})

    outcomes = DSPexWorker.execute_many(client, SentimentSignature, texts, max_concurrency: 200)

    assert Enum.frequencies_by(outcomes, &elem(&1, 0)) == %{ok: 1_000}
  end
end
