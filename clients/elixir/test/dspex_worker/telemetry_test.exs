defmodule DSPexWorker.TelemetryTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.{Client, FakeBroker}
  alias DSPexWorker.TestSignatures.Sentiment

  @events [
    [:dspex, :request, :start],
    [:dspex, :request, :stop],
    [:dspex, :request, :exception],
    [:dspex, :signature, :usage],
    [:dspex, :signature, :performance]
  ]

  setup do
    broker = start_supervised!({FakeBroker, self()})
    client = start_supervised!({Client, url: FakeBroker.url(broker), transport: FakeBroker})
    :telemetry.attach_many({__MODULE__, self()}, @events, &__MODULE__.tell/4, {self(), client})
    on_exit({:detach, self()}, detach(self()))
    {:ok, broker: broker, client: client}
  end

  defp detach(test), do: fn -> :telemetry.detach({__MODULE__, test}) end

  def tell(event, measurements, metadata, {test, client}) do
    if metadata.client == client, do: send(test, {event, measurements, metadata})
  end

  defp answer(broker, more) do
    outputs = %{"sentiment" => "positive", "confidence" => 0.9}
    FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(FakeBroker.result(outputs, more)) end)
  end

  test "a run starts, stops, and counts as the seed's metrics want it", %{broker: broker, client: client} do
    answer(broker, %{"attempts" => 2})
    {:ok, _outputs} = DSPexWorker.predict(client, Sentiment, %{text: "a"}, message_id: "m", traceparent: "00-a-b-01")

    assert_receive {[:dspex, :request, :start], %{system_time: _time, monotonic_time: _start}, start}
    assert %{command: "execute_program", message_id: "m", traceparent: "00-a-b-01"} = start
    assert start.signature =~ "Sentiment"
    assert_receive {[:dspex, :request, :stop], %{duration: duration}, %{result: :ok, code: nil, attempts: 2}}
    assert duration > 0
    assert_receive {[:dspex, :signature, :usage], %{count: 1}, %{type: :dynamic}}
    assert_receive {[:dspex, :signature, :performance], %{duration: ^duration}, %{type: :dynamic}}
  end

  test "the type tells question and answer from signatures", %{broker: broker, client: client} do
    for {more, type} <- [{%{"is_dynamic" => false}, :legacy}, {%{"fallback_used" => true}, :fallback}] do
      answer(broker, more)
      {:ok, _outputs} = DSPexWorker.execute(client, "program", %{text: "a"}, fallback: :create)
      assert_receive {[:dspex, :signature, :usage], %{count: 1}, %{type: ^type, program_id: "program"}}
    end
  end

  test "an error is a stop with its code, and no usage", %{broker: broker, client: client} do
    failed = %{"success" => false, "error" => "x", "error_detail" => %{"code" => "output_invalid", "attempts" => 3}}
    FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(failed) end)
    {:error, _error} = DSPexWorker.predict(client, Sentiment, %{text: "a"})

    assert_receive {[:dspex, :request, :stop], _measured, %{result: :error, code: :output_invalid, attempts: 3}}
    refute_received {[:dspex, :signature, :usage], _measured, _metadata}
  end

  test "the trace of OpenTelemetry goes along with each call, also with those of a stream", context do
    answer(context.broker, %{})
    :otel_propagator_text_map.set_headers([{"traceparent", "00-a-b-01"}, {"tracestate", "k=v"}, {"baggage", "no"}])
    trace = [{"traceparent", :longstr, "00-a-b-01"}, {"tracestate", :longstr, "k=v"}]

    {:ok, _outputs} = DSPexWorker.predict(context.client, Sentiment, %{text: "a"})
    assert traced() == trace

    for ordered? <- [true, false], none <- [[], [traceparent: nil], [traceparent: nil, tracestate: nil]] do
      many = DSPexWorker.execute_many!(context.client, Sentiment, [%{text: "a"}], [ordered: ordered?] ++ none)
      assert [_outputs] = Enum.to_list(many)
      assert traced() == trace
    end

    own = DSPexWorker.execute_many(context.client, Sentiment, [%{text: "a"}], traceparent: "00-c-d-01")
    assert [{:ok, _outputs}] = Enum.to_list(own)
    assert traced() == [{"traceparent", :longstr, "00-c-d-01"}]
  end

  defp traced do
    assert_receive {:published, message}
    for {"trace" <> _rest, _type, _value} = header <- message.headers, do: header
  end

  test "a call that is refused before anything is sent starts and stops too", %{broker: broker, client: client} do
    FakeBroker.set_consumers(broker, "dspex.execute", {:ok, 0})

    for {code, call} <- [
          {:invalid_inputs, fn -> DSPexWorker.predict(client, Sentiment, %{}, message_id: "m") end},
          {:unknown_type, fn -> DSPexWorker.predict(client, "text -> label: strng", %{text: "a"}) end},
          {:unknown_type, fn -> DSPexWorker.create_program(client, "text -> label: strng") end},
          {:invalid_request, fn -> DSPexWorker.predict(client, Sentiment, %{text: "a"}, message_id: "") end},
          {:no_worker, fn -> DSPexWorker.execute(client, "program", %{text: "a"}) end},
          {:no_worker, fn -> DSPexWorker.enqueue(client, Sentiment, %{text: "a"}) end}
        ] do
      assert {:error, %{code: ^code}} = call.()
      assert_receive {[:dspex, :request, :start], _measured, %{command: command}}
      assert_receive {[:dspex, :request, :stop], _measured, %{result: :error, code: ^code, command: ^command}}
    end

    refute_received {:published, _message}
  end

  test "a call to a client that is not running starts and stops too" do
    :telemetry.attach_many({__MODULE__, :nobody}, @events, &__MODULE__.tell/4, {self(), :nobody})
    on_exit(fn -> :telemetry.detach({__MODULE__, :nobody}) end)

    assert {:error, %{code: :closed}} = DSPexWorker.predict(:nobody, Sentiment, %{text: "a"})
    assert_receive {[:dspex, :request, :stop], _measured, %{result: :error, code: :closed, client: :nobody}}
  end

  test "what a call raises is an exception", %{client: client} do
    assert_raise ArgumentError, fn -> DSPexWorker.predict(client, Sentiment, "no inputs") end
    assert_receive {[:dspex, :request, :exception], _measured, %{kind: :error, reason: %ArgumentError{}}}
  end

  test "another command is a request, and no usage", %{broker: broker, client: client} do
    FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(%{"success" => true, "result" => %{}}) end)
    {:ok, _result} = DSPexWorker.call(client, "ping")

    assert_receive {[:dspex, :request, :stop], _measured, %{command: "ping", result: :ok, signature: nil}}
    refute_received {[:dspex, :signature, :usage], _measured, _metadata}
  end
end
