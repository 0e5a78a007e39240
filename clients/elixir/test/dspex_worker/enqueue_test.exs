defmodule DSPexWorker.EnqueueTest do
  @moduledoc "Send now, fetch later."

  use ExUnit.Case, async: true

  alias DSPexWorker.{Await, Client, Error, FakeBroker, Program, Result}
  alias DSPexWorker.Test, as: Stub
  alias DSPexWorker.TestSignatures.Sentiment

  @inputs %{text: "I love it"}
  @outputs %{"sentiment" => "positive", "confidence" => 0.93}

  setup do
    broker = start_supervised!({FakeBroker, self()})
    client = start_supervised!({Client, url: FakeBroker.url(broker), transport: FakeBroker, backoff: {1, 5}})
    Await.status(client, &(&1.connection == :up))
    {:ok, broker: broker, client: client}
  end

  defp enqueue(client, options \\ []),
    do: Task.async(fn -> DSPexWorker.enqueue(client, Sentiment, @inputs, options) end)

  # The answers to get_result, in turn; the last one stays.
  defp kept(broker, results) do
    {:ok, turns} = Agent.start_link(fn -> results end)

    FakeBroker.answer_with(broker, fn _message ->
      result = Agent.get_and_update(turns, fn [one | more] -> {one, if(more == [], do: [one], else: more)} end)
      FakeBroker.encode(%{"success" => true, "result" => result})
    end)
  end

  describe "enqueue/4" do
    test "returns the message id when the broker has confirmed the job", %{broker: broker, client: client} do
      task = enqueue(client, message_id: "order-17")
      assert_receive {:published, message}
      assert Task.yield(task, 20) == nil
      FakeBroker.event(broker, {:confirmed, 1, false})

      assert Task.await(task) == {:ok, "order-17"}
      assert {message.message_id, message.correlation_id, message.reply_to} == {"order-17", "order-17", nil}
      assert message.headers == []
      assert %{"command" => "execute_program", "args" => %{"inputs" => %{"text" => "I love it"}}} = decode(message)
    end

    defp decode(message), do: FakeBroker.decode(message)

    test "takes signatures, programs and ids", %{broker: broker, client: client} do
      for {target, number} <- Enum.with_index([Sentiment, "text -> label", %Program{id: "a"}, "a"], 1) do
        task = Task.async(fn -> DSPexWorker.enqueue!(client, target, @inputs) end)
        assert_receive {:published, message}
        FakeBroker.event(broker, {:confirmed, number, false})
        assert Task.await(task) == message.message_id
        assert decode(message)["args"]["program_id"] == if(is_binary(target) and number < 4, do: nil, else: id(target))
      end
    end

    defp id(%Program{id: id}), do: id
    defp id(id) when is_binary(id), do: id
    defp id(_signature), do: nil

    test "has a deadline, a reply queue and another run where they are asked for", %{broker: broker, client: client} do
      options = [message_id: "m", start_within: 600_000, reply_to: "dspex.reply.orders", rerun_of: 0]
      before = System.system_time(:millisecond)
      task = enqueue(client, options)
      assert_receive {:published, %{reply_to: "dspex.reply.orders"} = message}
      FakeBroker.event(broker, {:confirmed, 1, false})
      assert Task.await(task) == {:ok, "m"}

      assert [{"x-dspex-deadline", :long, deadline}, {"x-dspex-timeout", :long, _left}, rerun] = message.headers
      assert deadline in (before + 600_000)..(System.system_time(:millisecond) + 600_000)
      assert rerun == {"x-dspex-rerun", :long, 0}
    end

    test "fails where the job was refused or given back, confirmed though it is then", context do
      %{broker: broker, client: client} = context
      task = enqueue(client, message_id: "m")
      assert_receive {:published, message}
      FakeBroker.event(broker, {:returned, message.correlation_id, 312, "NO_ROUTE"})
      FakeBroker.event(broker, {:confirmed, 1, false})
      assert {:error, %Error{code: :no_worker, message_id: "m"}} = Task.await(task)

      task = enqueue(client)
      assert_receive {:published, _message}
      FakeBroker.event(broker, {:refused, 2, false})
      assert {:error, %Error{code: :refused, recoverable: true}} = Task.await(task)
    end

    test "waits for its queue, and counts no confirm of what was given back", %{broker: broker, client: client} do
      task = enqueue(client, no_worker: {:wait, 600_000})
      assert_receive {:published, message}
      FakeBroker.set_consumers(broker, "dspex.execute", :missing)
      FakeBroker.event(broker, {:returned, message.correlation_id, 312, "NO_ROUTE"})
      FakeBroker.event(broker, {:confirmed, 1, false})
      assert Task.yield(task, 20) == nil

      FakeBroker.set_consumers(broker, "dspex.execute", {:ok, 0})
      assert_receive {:published, _message}
      FakeBroker.event(broker, {:confirmed, 2, false})
      assert {:ok, _id} = Task.await(task)
    end

    @tag :capture_log
    test "is sent again where the connection broke before the confirm", %{broker: broker, client: client} do
      task = enqueue(client, message_id: "m")
      assert_receive {:published, %{message_id: "m"}}
      FakeBroker.break(broker, :socket_closed)
      assert_receive {:published, %{message_id: "m"}}
      FakeBroker.event(broker, {:confirmed, 1, true})

      assert Task.await(task) == {:ok, "m"}
    end

    test "that is not confirmed in time is a :timeout that names the job", %{client: client} do
      assert {:ok, _pong} = warm(client)
      task = enqueue(client, message_id: "m", timeout: 30)

      assert {:error, %Error{code: :timeout, recoverable: true, message_id: "m"}} = Task.await(task)
    end

    # It has seen a worker then.
    defp warm(client) do
      task = Task.async(fn -> DSPexWorker.predict(client, Sentiment, @inputs) end)
      assert_receive {:published, message}
      {broker, _link} = :sys.get_state(client).link
      FakeBroker.reply(broker, message, FakeBroker.result(@outputs))
      Task.await(task)
    end

    test "refuses inputs as a call does, and options that are a call's alone", %{client: client} do
      assert {:error, %Error{code: :invalid_inputs}} = DSPexWorker.enqueue(client, Sentiment, %{})

      for options <- [[full: true], [reply_to: 7], [start_within: 0]] do
        assert_raise ArgumentError, fn -> DSPexWorker.enqueue(client, Sentiment, @inputs, options) end
      end
    end
  end

  describe "await_result/3" do
    test "asks until the job has ended", %{broker: broker, client: client} do
      pending = for status <- ~w(unknown waiting running), do: %{"status" => status, "reply" => nil}
      kept(broker, pending ++ [%{"status" => "done", "reply" => FakeBroker.result(@outputs)}])

      assert DSPexWorker.await_result(client, "order-17", signature: Sentiment) ==
               {:ok, %{sentiment: "positive", confidence: 0.93}}

      for _look <- 1..4, do: assert_received({:published, %{queue: "dspex.control"}})
      refute_received {:published, _message}
    end

    test "returns the job's own error, and that it was cancelled", %{broker: broker, client: client} do
      failed = %{"success" => false, "error" => "x", "error_detail" => %{"code" => "timeout"}}
      kept(broker, [%{"status" => "done", "reply" => failed}])
      assert {:error, %Error{code: :timeout, message: "x"}} = DSPexWorker.await_result(client, "order-17")

      kept(broker, [%{"status" => "cancelled", "reply" => nil}])
      assert {:error, %Error{code: :cancelled}} = DSPexWorker.await_result(client, "order-17")
    end

    test "waits for workers that are away, and for no longer than it is told to", %{broker: broker, client: client} do
      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
      assert {:error, %Error{code: :timeout} = error} = DSPexWorker.await_result(client, "order-17", timeout: 600)
      assert error.message =~ "no_worker: No worker consumes dspex.control"

      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 1})
      kept(broker, [%{"status" => "running", "reply" => nil}])
      assert {:error, %Error{code: :timeout} = error} = DSPexWorker.await_result(client, "order-17", timeout: 600)
      assert %{message_id: "order-17", recoverable: true, details: %{status: :running}} = error
    end

    test "waits no longer where the client's calls wait for workers themselves", %{broker: broker} do
      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
      options = [url: FakeBroker.url(broker), transport: FakeBroker, no_worker: {:wait, 600_000}]
      client = start_supervised!(Supervisor.child_spec({Client, options}, id: :waiting))

      assert {:error, %Error{code: :timeout}} = DSPexWorker.await_result(client, "order-17", timeout: 600)
    end

    test "fails at once where nothing is to be waited for", %{broker: broker, client: client} do
      assert {:error, %Error{code: :closed}} = DSPexWorker.await_result(:no_such_client, "order-17")

      kept(broker, [%{"status" => "paused", "reply" => nil}])
      assert {:error, %Error{code: :invalid_reply}} = DSPexWorker.await_result(client, "order-17", timeout: :infinity)
    end
  end

  describe "read_reply/3" do
    test "reads what came by a queue of one's own", %{client: client} do
      body = FakeBroker.encode(FakeBroker.result(@outputs))
      options = [signature: Sentiment, full: true, message_id: "order-17", headers: [{"x-dspex-generation", 1}]]

      assert {:ok, %Result{} = result} = DSPexWorker.read_reply(client, body, options)
      assert {result.outputs.sentiment, result.message_id, result.generation} == {"positive", "order-17", 1}

      failed = %{"success" => false, "error" => "x", "error_detail" => %{"code" => "expired"}}
      assert {:error, %Error{code: :expired}} = DSPexWorker.read_reply(client, FakeBroker.encode(failed))
      assert {:error, %Error{code: :invalid_reply}} = DSPexWorker.read_reply(client, "no JSON")
    end
  end

  test "with stubs, a job that was enqueued has its result at once" do
    client = start_supervised!(Supervisor.child_spec({Client, transport: Stub}, id: :stubbed))

    Stub.stub(Sentiment, fn
      %{text: "bad"} -> {:error, :lm_unavailable}
      _inputs -> %{sentiment: "positive", confidence: 1}
    end)

    {:ok, good} = DSPexWorker.enqueue(client, Sentiment, @inputs)
    {:ok, bad} = DSPexWorker.enqueue(client, Sentiment, %{text: "bad"})

    assert {:ok, %{sentiment: "positive"}} = DSPexWorker.await_result(client, good, signature: Sentiment)
    assert {:error, %Error{code: :lm_unavailable}} = DSPexWorker.get_result(client, bad)
  end
end
