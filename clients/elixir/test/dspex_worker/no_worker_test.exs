defmodule DSPexWorker.NoWorkerTest do
  @moduledoc "A client that waits for workers that are not started yet: `no_worker: {:wait, milliseconds}`."

  use ExUnit.Case, async: true

  alias DSPexWorker.{Await, Client, Error, FakeBroker}

  setup do
    {:ok, broker: start_supervised!({FakeBroker, self()})}
  end

  defp start_client(broker, options \\ []) do
    client = start_supervised!({Client, [url: FakeBroker.url(broker), transport: FakeBroker] ++ options})
    Await.status(client, &(&1.connection == :up))
    client
  end

  defp ask(client, options), do: Task.async(fn -> DSPexWorker.call(client, "ping", %{}, options) end)
  defp pong, do: %{"success" => true, "result" => %{"status" => "ok"}}

  defp deadline(message) do
    assert [{"x-dspex-deadline", :long, deadline}, {"x-dspex-timeout", :long, left}] = message.headers
    {deadline, left}
  end

  test "the job is sent though nobody consumes the queue, with as much more time", %{broker: broker} do
    FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
    client = start_client(broker)
    before = System.system_time(:millisecond)
    task = ask(client, no_worker: {:wait, 600_000}, timeout: 50_000)

    assert_receive {:published, message}
    {deadline, left} = deadline(message)
    assert deadline in (before + 650_000)..(System.system_time(:millisecond) + 650_000)
    assert left in 600_001..650_000
    FakeBroker.reply(broker, message, pong())
    assert Task.await(task) == {:ok, %{"status" => "ok"}}
  end

  test "where somebody consumes it, nothing is later", %{broker: broker} do
    client = start_client(broker, no_worker: {:wait, 600_000})
    task = ask(client, timeout: 50_000)

    assert_receive {:published, message}
    {_deadline, left} = deadline(message)
    assert left <= 50_000
    FakeBroker.reply(broker, message, pong())
    assert {:ok, _result} = Task.await(task)
  end

  test "a call that waited for a worker in vain fails with :no_worker", %{broker: broker} do
    FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
    client = start_client(broker)
    task = ask(client, no_worker: {:wait, 60}, timeout: 60)
    assert_receive {:published, _message}

    assert {:error, %Error{code: :no_worker}} = Task.await(task)
  end

  test "others fail at once as ever, also while one waits", %{broker: broker} do
    FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
    client = start_client(broker, no_worker: {:wait, 600_000})
    waiting = ask(client, [])
    assert_receive {:published, message}

    assert {:error, %Error{code: :no_worker}} = DSPexWorker.call(client, "ping", %{}, no_worker: :fail)
    FakeBroker.reply(broker, message, pong())
    assert {:ok, _result} = Task.await(waiting)
  end

  test "a queue that does not exist yet is waited for", %{broker: broker} do
    FakeBroker.set_consumers(broker, "dspex.control", :missing)
    client = start_client(broker, no_worker: {:wait, 600_000})
    task = ask(client, [])
    assert_receive {:counted, "dspex.control"}
    assert_receive {:counted, "dspex.control"}
    refute_received {:published, _message}

    FakeBroker.set_consumers(broker, "dspex.control", {:ok, 1})
    assert_receive {:published, message}
    FakeBroker.reply(broker, message, pong())
    assert {:ok, _result} = Task.await(task)
  end

  test "a queue that never comes is :no_worker when the wait is over", %{broker: broker} do
    FakeBroker.set_consumers(broker, "dspex.control", :missing)
    client = start_client(broker)

    for ms <- [0, 50] do
      assert {:error, %Error{code: :no_worker, message: message}} =
               DSPexWorker.call(client, "ping", %{}, no_worker: {:wait, ms})

      assert message =~ "There is no queue dspex.control"
    end

    refute_received {:published, _message}
  end

  test "a job that came back because its queue was deleted is sent again when there is one", %{broker: broker} do
    client = start_client(broker, no_worker: {:wait, 600_000})
    task = ask(client, message_id: "order-17")
    assert_receive {:published, message}
    FakeBroker.set_consumers(broker, "dspex.control", :missing)
    FakeBroker.event(broker, {:returned, message.correlation_id, 312, "NO_ROUTE"})
    assert_receive {:counted, "dspex.control"}

    FakeBroker.set_consumers(broker, "dspex.control", {:ok, 1})
    assert_receive {:published, %{message_id: "order-17"} = message}
    FakeBroker.reply(broker, message, pong())
    assert {:ok, _result} = Task.await(task)
  end

  test "what is no such option raises, for a client and a call", %{broker: broker} do
    client = start_client(broker)

    for wrong <- [:wait, {:wait, -1}, {:wait, :infinity}, 5] do
      assert_raise ArgumentError, ~r/:no_worker/, fn -> DSPexWorker.call(client, "ping", %{}, no_worker: wrong) end
      assert_raise ArgumentError, ~r/:no_worker/, fn -> Client.start_link(transport: FakeBroker, no_worker: wrong) end
    end
  end
end
