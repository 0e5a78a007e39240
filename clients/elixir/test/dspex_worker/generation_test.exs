defmodule DSPexWorker.GenerationTest do
  @moduledoc "Which run of a job a reply is of, whether it is a stored one, and how another run is asked for."

  use ExUnit.Case, async: true

  alias DSPexWorker.{Client, Error, FakeBroker, Result}
  alias DSPexWorker.TestSignatures.Sentiment

  @inputs %{text: "I love it"}
  @outputs %{"sentiment" => "positive", "confidence" => 0.93}
  @failed %{
    "success" => false,
    "error" => "down",
    "error_detail" => %{"code" => "lm_unavailable", "recoverable" => true}
  }

  setup do
    broker = start_supervised!({FakeBroker, self()})
    {:ok, broker: broker, client: start_supervised!({Client, url: FakeBroker.url(broker), transport: FakeBroker})}
  end

  defp play(broker, call, reply, headers) do
    task = Task.async(call)
    assert_receive {:published, message}
    FakeBroker.reply(broker, message, reply, headers)
    {Task.await(task), message}
  end

  defp predict(client, options), do: fn -> DSPexWorker.predict(client, Sentiment, @inputs, options) end

  test "a fresh result has a generation, and one that was stored says when", %{broker: broker, client: client} do
    predict = predict(client, full: true, message_id: "order-17")
    fresh = FakeBroker.result(@outputs)
    stored = Map.put(fresh, "stored_ms", 1_795_416_206_534)

    for {reply, headers, expected} <- [
          {fresh, %{}, {nil, nil}},
          {fresh, %{"x-dspex-generation" => 0}, {0, nil}},
          {stored, %{"x-dspex-generation" => 1, "x-dspex-stored" => 1_795_416_206_534}, {1, 1_795_416_206_534}},
          {stored, %{"x-dspex-generation" => "x"}, {nil, 1_795_416_206_534}}
        ] do
      {{:ok, %Result{} = result}, _message} = play(broker, predict, reply, headers)

      assert {result.generation, result.stored_ms, result.message_id} == Tuple.append(expected, "order-17")
    end
  end

  test "an error says which run of which job it is of, and when it was stored", %{broker: broker, client: client} do
    headers = %{"x-dspex-generation" => 2, "x-dspex-stored" => 1_795_416_206_534}
    {{:error, error}, _message} = play(broker, predict(client, message_id: "order-17"), @failed, headers)

    assert %Error{message_id: "order-17", generation: 2, stored_ms: 1_795_416_206_534, recoverable: true} = error
  end

  test "an error of the client names the job as well, where there is one", %{broker: broker, client: client} do
    assert {:error, %Error{code: :invalid_inputs, message_id: nil}} = DSPexWorker.predict(client, Sentiment, %{})

    FakeBroker.set_consumers(broker, "dspex.execute", {:ok, 0})
    assert {:error, %Error{code: :no_worker, message_id: "order-17"}} = predict(client, message_id: "order-17").()
  end

  test "another run is asked for with the generation of the error", %{broker: broker, client: client} do
    options = [message_id: "order-17", rerun_of: 2, timeout: :infinity]
    {{:ok, _outputs}, message} = play(broker, predict(client, options), FakeBroker.result(@outputs), %{})

    assert message.headers == [{"x-dspex-rerun", :long, 2}]

    execute = fn -> DSPexWorker.execute(client, "sentiment", @inputs, options) end
    {{:ok, _outputs}, message} = play(broker, execute, FakeBroker.result(@outputs), %{})

    assert message.headers == [{"x-dspex-rerun", :long, 2}]
  end

  test "another run of a job that is not named, or of no generation, raises", %{client: client} do
    for options <- [[rerun_of: 0], [rerun_of: -1, message_id: "m"], [rerun_of: "0", message_id: "m"]] do
      assert_raise ArgumentError, ~r/:rerun_of/, predict(client, options)
    end
  end

  test "a kept result has the generation that the workers tell of it", %{broker: broker, client: client} do
    get = fn -> DSPexWorker.get_result(client, "order-17", full: true) end

    for {reply, kind} <- [{FakeBroker.result(@outputs), :ok}, {@failed, :error}] do
      kept = %{"status" => "done", "reply" => Map.put(reply, "stored_ms", 7), "generation" => 3}
      # The headers are those of the reply to get_result itself.
      headers = %{"x-dspex-generation" => 0}
      {answer, _message} = play(broker, get, %{"success" => true, "result" => kept}, headers)

      assert {^kind, %{generation: 3, stored_ms: 7, message_id: "order-17"}} = answer
    end
  end
end
