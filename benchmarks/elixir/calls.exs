# Measures calls to an echo consumer, by the client and by a raw loop, in one and the same process:
#
#     elixir -pa …/dspex_worker/ebin -r raw.ex calls.exs NAMESPACE
#
# Each line on stdin is `HOW CALLS IN_FLIGHT`; the seconds that it took come back on stdout. HOW is one of
#
#   * `client`: `DSPexWorker.predict/4`, by as many processes as calls are in flight, through one client
#   * `raw`: one process that publishes a ready body and counts the replies
#   * `json`: the same, writing each body and reading each reply with `jsx`, or with Elixir's `JSON` where that is missing

defmodule Bench.Sentiment do
  @moduledoc "Detects the sentiment of a text"
  use DSPexWorker.Signature

  signature do
    input :text, :string, desc: "Text to analyse", min_length: 1
    output :sentiment, :string, one_of: ~w(positive negative neutral)
    output :confidence, :probability
  end
end

[namespace] = System.argv()
url = System.fetch_env!("DSPEX_AMQP_URL")
inputs = %{text: "I love it"}

{:ok, _apps} = Application.ensure_all_started(:dspex_worker)
{:ok, client} = DSPexWorker.Client.start_link(url: url, namespace: namespace)
{_connection, channel} = Bench.Raw.open(url)
:ok = Bench.Raw.listen(channel)

{:ok, definition} = DSPexWorker.Signature.Definition.of(Bench.Sentiment)
signature = DSPexWorker.Signature.Definition.to_wire(definition)
request = %{"command" => "execute_program", "args" => %{"signature" => signature, "fallback" => "never"}}

# RabbitMQ 4 ships no jsx, Elixir has JSON from 1.18 on; by `apply`, so that nobody is warned of the one that is missing.
{encode, decode} =
  if Code.ensure_loaded?(:jsx),
    do: {&apply(:jsx, :encode, [&1]), &apply(:jsx, :decode, [&1, [:return_maps]])},
    else: {&apply(JSON, :encode!, [&1]), &apply(JSON, :decode!, [&1])}

write = fn -> encode.(put_in(request, ["args", "inputs"], %{"text" => inputs.text})) end
read = fn reply -> %{"success" => true, "result" => _result} = decode.(reply) end
body = write.()

run = fn
  "raw", calls, in_flight ->
    :ok = Bench.Raw.call(channel, {namespace, "execute"}, {fn -> body end, & &1}, calls, in_flight)

  "json", calls, in_flight ->
    :ok = Bench.Raw.call(channel, {namespace, "execute"}, {write, read}, calls, in_flight)

  "client", calls, in_flight ->
    caller = fn _number ->
      for _call <- 1..div(calls, in_flight), do: {:ok, _outputs} = DSPexWorker.predict(client, Bench.Sentiment, inputs)
    end

    1..in_flight |> Enum.map(&Task.async(fn -> caller.(&1) end)) |> Task.await_many(60_000)
end

for line <- IO.stream(:stdio, :line) do
  [what, calls, in_flight] = String.split(line)
  began = System.monotonic_time()
  run.(what, String.to_integer(calls), String.to_integer(in_flight))
  IO.puts(System.convert_time_unit(System.monotonic_time() - began, :native, :microsecond) / 1.0e6)
end
