# What `make demo` runs from Elixir: one signature, some texts, and a line of JSON for each answer.
#
#     AMQP_URL=amqp://localhost mix run examples/demo.exs

defmodule Demo.Sentiment do
  @moduledoc "Detects the sentiment of a text"
  use DSPexWorker.Signature

  signature do
    input :text, :string, desc: "Text to analyse", min_length: 1
    output :sentiment, :string, one_of: ~w(positive negative neutral)
    output :confidence, :probability
  end
end

url = System.fetch_env!("AMQP_URL")
namespace = System.get_env("DSPEX_NAMESPACE", "dspex")
{:ok, client} = DSPexWorker.Client.start_link(url: url, namespace: namespace)

texts =
  for thing <- ~w(book film chair train), what <- ["I love this", "I regret this", "This is a"], do: "#{what} #{thing}"

inputs = Enum.map(texts, &%{text: &1})

answer = fn
  inputs, {:ok, outputs} -> %{outputs: outputs, shown: "#{inspect(inputs)} → #{inspect(outputs)}"}
  _inputs, {:error, error} -> %{error: Exception.message(error)}
end

for {inputs, outcome} <- Enum.zip(inputs, DSPexWorker.execute_many(client, Demo.Sentiment, inputs)) do
  {:ok, line} = DSPexWorker.JSON.plain(answer.(inputs, outcome))
  {:ok, json} = DSPexWorker.JSON.default().encode(line)
  IO.puts(json)
end
