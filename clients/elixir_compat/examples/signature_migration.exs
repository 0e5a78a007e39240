# The plan's own examples; its signature line is in quotes. Needs a broker and a worker; with DSPEX_LM_MODEL=offline a
# worker needs no key.
#
#     AMQP_URL=amqp://localhost mix run examples/signature_migration.exs

# Before: Using Q&A format
defmodule OldWay do
  def analyze_sentiment(text) do
    {:ok, result} =
      DSPex.execute(%{
        question: "What is the sentiment of: #{text}"
      })

    # Parse answer to extract sentiment
    parse_sentiment_from_answer(result.answer)
  end

  defp parse_sentiment_from_answer(answer) do
    Enum.find(~w(positive negative neutral), "nobody knows: #{answer}", &String.contains?(String.downcase(answer), &1))
  end
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

options = [url: System.fetch_env!("AMQP_URL"), namespace: System.get_env("DSPEX_NAMESPACE", "dspex")]
{:ok, client} = DSPexWorker.Client.start_link(options)
Application.put_env(:dspex_worker, :client, client)
text = "I absolutely love this new feature!"

IO.inspect(OldWay.analyze_sentiment(text), label: "before")
IO.inspect(NewWay.analyze_sentiment(text), label: "after")
GenServer.stop(client)
