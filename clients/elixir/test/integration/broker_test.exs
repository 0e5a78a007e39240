defmodule DSPexWorker.Integration.BrokerTest do
  @moduledoc "A broker that goes away, and one that allows no more than it must, with each of the transports."

  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias DSPexWorker.{Await, Client, Error, Stage, Transport}

  @moduletag :integration
  @moduletag timeout: 120_000

  @answer %{label: "good"}
  @signature "text -> label: string"
  @transports [Transport.AMQP, Transport.Erlang]

  setup_all do
    stage = Stage.start(own_broker: true)
    Stage.ask(stage, "have_workers", %{count: 1})
    {:ok, stage: stage}
  end

  defp start_client(stage, options) do
    start_supervised!(Supervisor.child_spec({Client, Stage.client(stage, options)}, id: options))
  end

  # Two clients cannot have the replies of one name.
  defp own_replies([reply_queue: name], transport), do: [reply_queue: "#{name}.#{inspect(transport)}"]
  defp own_replies([], _transport), do: []

  defp predict(client, number, options) do
    DSPexWorker.predict(client, @signature, %{text: "job-#{number}"}, options)
  end

  for {replies, options} <- [direct: [], durable: [reply_queue: "app"]] do
    @options options

    test "calls in flight are answered after the broker was killed (#{replies} replies)", %{stage: stage} do
      Stage.ask(stage, "hold_lm")
      before = Stage.ask(stage, "lm_calls")

      clients =
        for transport <- @transports,
            do: start_client(stage, [transport: transport] ++ own_replies(@options, transport))

      capture_log(fn ->
        # However long the broker takes to come back.
        ask = fn client, number, more -> Task.async(fn -> predict(client, number, [timeout: :infinity] ++ more) end) end
        calling = for client <- clients, number <- 1..10, do: ask.(client, number, lm: :remote)
        Stage.ask(stage, "reach_lm", %{calls: before + 20})
        Stage.ask(stage, "kill_broker")
        # Those that are made while nobody listens wait for the broker.
        waiting = for client <- clients, do: ask.(client, 11, [])
        Stage.ask(stage, "start_broker")
        Stage.ask(stage, "mend_lm", %{outputs: @answer})

        assert Task.await_many(calling, 60_000) == List.duplicate({:ok, %{"label" => "good"}}, 20)
        for answer <- Task.await_many(waiting, 60_000), do: assert({:ok, %{"label" => _made_up}} = answer)
      end)

      # A lost connection is no reason to pay again.
      assert Stage.ask(stage, "lm_calls") == before + 20
      for client <- clients, do: assert(Client.status(client) == %{connection: :up, in_flight: 0})
    end
  end

  test "calls wait while the broker blocks publishers", %{stage: stage} do
    clients = for transport <- @transports, do: start_client(stage, transport: transport)
    for client <- clients, do: assert({:ok, _outputs} = predict(client, 1, []))
    Stage.ask(stage, "ctl", %{arguments: ["set_vm_memory_high_watermark", "0.0000001"]})
    # The first publish is what the broker blocks a connection for.
    calling = for client <- clients, number <- 1..3, do: Task.async(fn -> predict(client, number, []) end)
    assert Task.yield_many(calling, 300) |> Enum.all?(&match?({_task, nil}, &1))
    Stage.ask(stage, "ctl", %{arguments: ["set_vm_memory_high_watermark", "0.6"]})

    assert calling |> Task.await_many(30_000) |> Enum.all?(&match?({:ok, _outputs}, &1))
  end

  test "a publisher of least rights needs no more, and what it may not do is an error and no endless wait",
       %{stage: stage} do
    url = Stage.ask(stage, "make_user", %{role: "publisher", name: "shop"})

    for transport <- @transports, options <- [[], [reply_queue: "shop"], [reply_queue: "shop.1", user_id: "shop"]] do
      options = [url: url, transport: transport] ++ options
      client = start_client(stage, options)

      assert {:ok, program} = DSPexWorker.create_program(client, @signature)
      assert {:ok, %{"label" => _made_up}} = DSPexWorker.execute(client, program, %{text: "I love it"})
      assert {:ok, %{"status" => "ok"}} = DSPexWorker.call(client, "ping")
      stop_supervised!(options)
    end

    capture_log(fn ->
      for transport <- @transports do
        foreign = start_client(stage, url: url, transport: transport, namespace: "billing")
        assert {:error, %Error{code: :no_worker}} = predict(foreign, 1, timeout: 30_000)

        borrowed = start_client(stage, url: url, transport: transport, reply_queue: "mall")
        Await.status(borrowed, &match?(%{reason: "ACCESS_REFUSED" <> _text}, &1))
        assert {:error, %Error{code: :connection, message: message}} = predict(borrowed, 1, timeout: 1_000)
        assert message =~ "ACCESS_REFUSED - access to queue"
        assert %{connection: :down, reason: "ACCESS_REFUSED" <> _text} = Client.status(borrowed)
      end
    end)
  end

  test "a job says when it was sent and how much of its time was left, and its reply which run it is of", context do
    for transport <- @transports do
      {:ok, link} = transport.open(url: Stage.place(context.stage)["url"])
      name = "spy-#{inspect(transport)}"
      :ok = transport.listen(link, self(), {:queue, name, 60_000})
      message = %Transport.Message{exchange: "", routing_key: name, queue: name, body: "{}", message_id: "order-17"}
      now = System.system_time(:millisecond)
      sent = Transport.Message.sent_at(%{message | correlation_id: "c", deadline: now + 5_000}, now)
      :ok = transport.publish(link, sent)
      {event, timestamp} = await_reply(transport)

      assert {:reply, "c", "{}", _tag, %{"x-dspex-deadline" => deadline, "x-dspex-timeout" => 5_000}} = event
      assert {deadline, timestamp} == {now + 5_000, div(now, 1_000)}
      transport.close(link)
    end
  end

  defp await_reply(transport) do
    receive do
      message ->
        case transport.event(message) do
          {:reply, _id, _body, _tag, _headers} = event -> {event, timestamp(message)}
          _other -> await_reply(transport)
        end
    end
  end

  defp timestamp({:basic_deliver, _body, meta}), do: meta.timestamp
  # The tenth property.
  defp timestamp({_method, {:amqp_msg, properties, _body}}), do: elem(properties, 10)

  test "a namespace that is not there has no worker", %{stage: stage} do
    capture_log(fn ->
      for transport <- @transports do
        client = start_client(stage, transport: transport, namespace: "nowhere")
        assert {:error, %Error{code: :no_worker}} = predict(client, 1, timeout: 30_000)
      end
    end)
  end
end
