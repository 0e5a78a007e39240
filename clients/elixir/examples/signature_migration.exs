# From question and answer to a signature. Needs a broker and a worker; with DSPEX_LM_MODEL=offline a worker needs no key.
#
#     AMQP_URL=amqp://localhost mix run examples/signature_migration.exs

# Before: everything goes into one text and comes out of one, and the caller digs for what it wanted.
defmodule OldWay do
  def analyze_sentiment(client, text) do
    question = "What is the sentiment of: #{text}"
    {:ok, result} = DSPexWorker.predict(client, "question -> answer", %{question: question})
    parse_sentiment_from_answer(result["answer"])
  end

  defp parse_sentiment_from_answer(answer) do
    Enum.find(~w(positive negative neutral), "nobody knows: #{answer}", &String.contains?(String.downcase(answer), &1))
  end
end

# After: fields have names and types, and the sentiment is one of three.
defmodule NewWay do
  defmodule SentimentSignature do
    @moduledoc "Analyzes sentiment of text"
    use DSPexWorker.Signature

    signature do
      input :text, :string
      output :sentiment, :string, one_of: ~w(positive negative neutral)
      output :confidence, :probability
    end
  end

  def analyze_sentiment(client, text) do
    {:ok, program} = DSPexWorker.create_program(client, SentimentSignature)
    {:ok, result} = DSPexWorker.execute(client, program, %{text: text})
    {result.sentiment, result.confidence}
  end
end

defmodule Translation do
  use DSPexWorker.Signature

  signature "source_text: :string, target_language: :string -> translated_text: :string"
end

namespace = System.get_env("DSPEX_NAMESPACE", "dspex")
{:ok, client} = DSPexWorker.Client.start_link(url: System.fetch_env!("AMQP_URL"), namespace: namespace)
text = "I absolutely love this new feature!"

IO.inspect(OldWay.analyze_sentiment(client, text), label: "before")
IO.inspect(NewWay.analyze_sentiment(client, text), label: "after")

translated = DSPexWorker.predict!(client, Translation, source_text: "Hello world", target_language: "French")
IO.inspect(translated.translated_text, label: "translated")
GenServer.stop(client)
