defmodule DSPexWorker.ClientTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias DSPexWorker.{Await, Client, Error, FakeBroker}
  alias DSPexWorker.Transport.Message

  setup do
    {:ok, broker: start_supervised!({FakeBroker, self()})}
  end

  defp start_client(broker, options \\ []) do
    defaults = [url: FakeBroker.url(broker), transport: FakeBroker, backoff: {1, 5}]
    client = start_supervised!({Client, Keyword.merge(defaults, options)})
    assert_receive {:listening, _replies}
    Await.status(client, &(&1.connection == :up))
    client
  end

  # It has seen a worker, so what is called next is sent at once, before its time may be up.
  defp start_used_client(broker) do
    client = start_client(broker)
    task = ask(client)
    assert_receive {:published, message}
    FakeBroker.reply(broker, message, pong())
    assert {:ok, _result} = Task.await(task)
    client
  end

  defp ask(client, options \\ []), do: Task.async(fn -> DSPexWorker.call(client, "ping", %{}, options) end)

  defp pong, do: %{"success" => true, "result" => %{"status" => "ok"}}

  defp gone(code, text), do: {:shutdown, {:server_initiated_close, code, text}}

  describe "a call" do
    test "is published through the namespace's exchange, with deadline, ids and reply address", %{broker: broker} do
      client = start_client(broker, namespace: "shop")
      before = System.system_time(:millisecond)
      task = ask(client, timeout: 5_000, message_id: "order-17", traceparent: "00-a-b-01")

      assert_receive {:published, %Message{} = message}
      assert {message.exchange, message.routing_key, message.queue} == {"shop", "control", "shop.control"}
      assert {message.message_id, message.reply_to} == {"order-17", "amq.rabbitmq.reply-to"}
      assert FakeBroker.decode(message) == %{"command" => "ping", "args" => %{}}

      assert [{"x-dspex-deadline", :long, deadline}, {"x-dspex-timeout", :long, left}, trace] = message.headers
      assert trace == {"traceparent", :longstr, "00-a-b-01"}
      assert deadline in (before + 5_000)..(System.system_time(:millisecond) + 5_000)
      assert left in 1..5_000
      assert message.timestamp in div(before, 1_000)..System.system_time(:second)

      FakeBroker.reply(broker, message, pong())
      assert Task.await(task) == {:ok, %{"status" => "ok"}}
    end

    test "goes to the lane of its command", %{broker: broker} do
      client = start_client(broker)

      for {command, queue} <- [
            {"create_program", "dspex.create"},
            {"execute_program", "dspex.execute"},
            {"execute_gemini_program", "dspex.execute"},
            {"cancel", "dspex.control"}
          ] do
        task = Task.async(fn -> DSPexWorker.call(client, command) end)
        assert_receive {:published, %Message{queue: ^queue} = message}
        FakeBroker.reply(broker, message, pong())
        assert {:ok, _result} = Task.await(task)
      end
    end

    test "without a time-out has no deadline, and says when it was sent all the same", %{broker: broker} do
      client = start_client(broker)
      task = ask(client, timeout: :infinity)

      assert_receive {:published, %Message{headers: [], timestamp: seconds} = message} when is_integer(seconds)
      FakeBroker.reply(broker, message, pong())
      assert {:ok, _result} = Task.await(task)
    end

    test "carries the broker user where tenants are kept apart", %{broker: broker} do
      client = start_client(broker, user_id: "orders")
      task = ask(client)

      assert_receive {:published, %Message{user_id: "orders"} = message}
      FakeBroker.reply(broker, message, pong())
      assert {:ok, _result} = Task.await(task)
    end

    test "gets its own reply among a thousand, in any order", %{broker: broker} do
      client = start_client(broker)

      tasks = for number <- 1..1_000, do: Task.async(fn -> DSPexWorker.call(client, "echo", %{number: number}) end)

      messages = for _number <- 1..1_000, do: assert_receive({:published, %Message{}}, 5_000) |> elem(1)
      assert Client.status(client) == %{connection: :up, in_flight: 1_000}

      for message <- Enum.shuffle(messages) do
        FakeBroker.reply(broker, message, %{"success" => true, "result" => FakeBroker.decode(message)["args"]})
      end

      assert Task.await_many(tasks) == Enum.map(1..1_000, &{:ok, %{"number" => &1}})
      assert Client.status(client) == %{connection: :up, in_flight: 0}
    end

    test "takes the first reply; repeated and unknown ones are dropped", %{broker: broker} do
      client = start_client(broker)
      task = ask(client)
      assert_receive {:published, message}

      FakeBroker.reply(broker, %{message | correlation_id: "another"}, %{"success" => true, "result" => %{"a" => 1}})
      FakeBroker.event(broker, {:reply, nil, "no id", 1})
      FakeBroker.reply(broker, message, pong())
      FakeBroker.reply(broker, message, %{"success" => true, "result" => %{"b" => 2}})

      assert Task.await(task) == {:ok, %{"status" => "ok"}}
      assert Client.status(client) == %{connection: :up, in_flight: 0}
    end

    test "whose reply is no reply fails with :invalid_reply", %{broker: broker} do
      client = start_client(broker)

      for body <- ["", "[]", "{}", ~s({"success": true}), ~s({"success": true, "result": 7}), <<255>>] do
        task = ask(client)
        assert_receive {:published, message}
        FakeBroker.reply(broker, message, body)
        assert {:error, %Error{code: :invalid_reply}} = Task.await(task)
      end
    end

    test "returns a worker's error with all that it says", %{broker: broker} do
      client = start_client(broker)
      task = ask(client)
      assert_receive {:published, message}
      detail = %{"code" => "lm_unavailable", "recoverable" => true, "retry_after" => 250, "attempts" => 3}
      FakeBroker.reply(broker, message, %{"success" => false, "error" => "down", "error_detail" => detail})

      assert {:error, %Error{code: :lm_unavailable, recoverable: true, retry_after: 250, attempts: 3, message: "down"}} =
               Task.await(task)
    end

    test "that cannot be written, or is too large, is not sent", %{broker: broker} do
      client = start_client(broker, max_body_bytes: 100)

      assert {:error, %Error{code: :invalid_request, problems: [%{path: "/a"}]}} =
               DSPexWorker.call(client, "ping", %{a: self()})

      assert {:error, %Error{code: :body_too_large}} =
               DSPexWorker.call(client, "ping", %{a: String.duplicate("a", 100)})

      assert {:error, %Error{code: :invalid_request}} = DSPexWorker.call(client, "ping", %{}, message_id: "a\nb")

      assert {:error, %Error{code: :invalid_request}} =
               DSPexWorker.call(client, "ping", %{}, message_id: String.duplicate("a", 256))

      refute_received {:published, _message}
    end

    test "with an option that does not exist raises", %{broker: broker} do
      client = start_client(broker)
      assert_raise ArgumentError, fn -> DSPexWorker.call(client, "ping", %{}, timout: 5) end
      assert_raise ArgumentError, fn -> DSPexWorker.call(client, "ping", %{}, timeout: 0) end
    end

    test "whose process has ended is forgotten, and not sent again", %{broker: broker} do
      client = start_client(broker)
      callers = for _number <- 1..20, do: spawn(fn -> DSPexWorker.call(client, "ping", %{}, timeout: :infinity) end)
      for _caller <- callers, do: assert_receive({:published, _message})
      task = ask(client, message_id: "alive")
      assert_receive {:published, %{message_id: "alive"}}

      for caller <- callers, do: Process.exit(caller, :kill)
      assert await_in_flight(client, 1) == 1

      capture_log(fn ->
        FakeBroker.break(broker, :socket_closed)
        assert_receive {:listening, :direct}
        assert_receive {:published, %{message_id: "alive"} = message}
        FakeBroker.reply(broker, message, pong())
        assert {:ok, _result} = Task.await(task)
      end)

      refute_received {:published, _message}
    end

    test "whose process has ended before it was sent is not sent", %{broker: broker} do
      client = start_client(broker, requires_worker: false)
      FakeBroker.event(broker, :blocked)
      assert Await.status(client, &(&1.connection == :blocked)).in_flight == 0
      caller = spawn(fn -> DSPexWorker.call(client, "ping", %{}, timeout: :infinity) end)
      assert await_in_flight(client, 1) == 1
      Process.exit(caller, :kill)
      assert await_in_flight(client, 0) == 0
      FakeBroker.event(broker, :unblocked)
      Await.status(client, &(&1.connection == :up))
      told_all(broker)

      refute_received {:published, _message}
    end

    test "to a client that is not running is :closed" do
      assert {:error, %Error{code: :closed, recoverable: true}} = DSPexWorker.call(:no_such_client, "ping")
    end
  end

  describe "no worker" do
    test "is said before anything is sent where nobody consumes the queue", %{broker: broker} do
      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
      client = start_client(broker)

      assert {:error, %Error{code: :no_worker, recoverable: true, details: %{queue: "dspex.control"}}} =
               DSPexWorker.call(client, "ping")

      refute_received {:published, _message}
    end

    test "is said where there is no queue", %{broker: broker} do
      FakeBroker.set_consumers(broker, "dspex.control", :missing)
      client = start_client(broker)

      assert {:error, %Error{code: :no_worker}} = DSPexWorker.call(client, "ping")
    end

    test "is asked for once per connection and queue, and again after it was missed", %{broker: broker} do
      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
      client = start_client(broker)
      assert {:error, %Error{code: :no_worker}} = DSPexWorker.call(client, "ping")
      assert_receive {:counted, "dspex.control"}

      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 1})
      FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(pong()) end)
      for _time <- 1..3, do: assert({:ok, _result} = DSPexWorker.call(client, "ping"))
      assert_receive {:counted, "dspex.control"}
      refute_received {:counted, _queue}

      assert {:ok, _result} = DSPexWorker.call(client, "create_program")
      assert_receive {:counted, "dspex.create"}
    end

    test "is the answer to a time-out where the consumers are gone by then", %{broker: broker} do
      client = start_used_client(broker)
      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
      task = ask(client, timeout: 50)
      assert_receive {:published, _message}

      assert {:error, %Error{code: :no_worker}} = Task.await(task)
    end

    test "is what a returned message means", %{broker: broker} do
      client = start_client(broker)
      task = ask(client)
      assert_receive {:published, message}
      FakeBroker.event(broker, {:returned, message.correlation_id, 312, "NO_ROUTE"})

      assert {:error, %Error{code: :no_worker}} = Task.await(task)
    end

    test "is not asked for where a broker does not tell, or the client shall queue its jobs", %{broker: broker} do
      FakeBroker.set_consumers(broker, "dspex.control", {:error, :refused})
      client = start_client(broker)
      task = ask(client)
      assert_receive {:published, message}
      FakeBroker.reply(broker, message, pong())
      assert {:ok, _result} = Task.await(task)
      stop_supervised!(Client)

      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
      client = start_client(broker, requires_worker: false)
      task = ask(client)
      assert_receive {:published, message}
      FakeBroker.reply(broker, message, pong())
      assert {:ok, _result} = Task.await(task)
    end
  end

  describe "a time-out" do
    test "names the message id, under which the job may be asked for again", %{broker: broker} do
      client = start_used_client(broker)
      task = ask(client, timeout: 30, message_id: "order-1")
      assert_receive {:published, _message}

      assert {:error, %Error{code: :timeout, recoverable: true, details: %{message_id: "order-1"}}} = Task.await(task)
      assert Client.status(client).in_flight == 0
    end

    test "drops the reply that comes too late", %{broker: broker} do
      client = start_used_client(broker)
      task = ask(client, timeout: 30)
      assert_receive {:published, message}
      assert {:error, %Error{code: :timeout}} = Task.await(task)

      FakeBroker.reply(broker, message, pong())
      assert Client.status(client) == %{connection: :up, in_flight: 0}
    end

    test "while the broker is away is a :connection error that says why, as the status does", %{broker: broker} do
      refused = {:auth_failure, ~c"ACCESS_REFUSED - Login was refused"}
      FakeBroker.fail_connects(broker, List.duplicate(refused, 10_000))

      capture_log(fn ->
        client = start_supervised!({Client, url: FakeBroker.url(broker), transport: FakeBroker, backoff: {1, 2}})

        # The client has been told of the first failure when the second attempt is made.
        assert_receive {:open_failed, ^refused}
        assert_receive {:open_failed, ^refused}

        assert {:error, %Error{code: :connection, recoverable: true, message: message, details: details}} =
                 DSPexWorker.call(client, "ping", %{}, timeout: 30)

        assert message == "The broker could not be reached in time: ACCESS_REFUSED - Login was refused"
        assert %{reason: "ACCESS_REFUSED - Login was refused", message_id: _id} = details

        assert Client.status(client) ==
                 %{connection: :down, in_flight: 0, reason: "ACCESS_REFUSED - Login was refused"}

        stop_supervised!(Client)
      end)
    end

    test "after the connection was made no longer says why there was none", %{broker: broker} do
      FakeBroker.fail_connects(broker, [:econnrefused])
      FakeBroker.answer_with(broker, fn _message -> FakeBroker.encode(pong()) end)

      capture_log(fn ->
        client = start_client(broker)
        assert_received {:open_failed, :econnrefused}
        assert {:ok, _result} = DSPexWorker.call(client, "ping")
        assert Client.status(client) == %{connection: :up, in_flight: 0}
      end)
    end
  end

  describe "a lost connection" do
    @describetag :capture_log

    test "is made again, and what waits is published again under the same message id", %{broker: broker} do
      client = start_client(broker)
      tasks = for number <- 1..20, do: ask(client, message_id: "job-#{number}")
      first = for _task <- tasks, do: assert_receive({:published, _message}) |> elem(1)

      FakeBroker.break(broker, :socket_closed)
      assert_receive :closed
      assert_receive {:listening, :direct}
      second = for _task <- tasks, do: assert_receive({:published, _message}) |> elem(1)

      # But for when it was sent, and how much was left then.
      same = &{&1.message_id, &1.correlation_id, &1.body, hd(&1.headers)}
      assert Enum.sort(Enum.map(first, same)) == Enum.sort(Enum.map(second, same))
      for message <- second, do: FakeBroker.reply(broker, message, pong())
      assert Task.await_many(tasks) == List.duplicate({:ok, %{"status" => "ok"}}, 20)
    end

    test "is tried again until it succeeds, and calls wait meanwhile", %{broker: broker} do
      client = start_client(broker)
      FakeBroker.fail_connects(broker, [:econnrefused, :econnrefused, {:auth_failure, ~c"no"}])
      FakeBroker.break(broker, :heartbeat_timeout)
      assert_receive {:open_failed, :econnrefused}
      task = ask(client)
      assert_receive {:open_failed, {:auth_failure, _text}}
      assert_receive {:published, message}
      FakeBroker.reply(broker, message, pong())

      assert {:ok, _result} = Task.await(task)
    end

    test "does not fail calls because the client is back before the workers", %{broker: broker} do
      client = start_client(broker)
      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 0})
      FakeBroker.break(broker, gone(320, "CONNECTION_FORCED - broker forced connection closure"))
      assert_receive {:listening, :direct}
      task = ask(client)
      assert_receive {:counted, "dspex.control"}
      FakeBroker.set_consumers(broker, "dspex.control", {:ok, 1})
      assert_receive {:published, message}
      FakeBroker.reply(broker, message, pong())

      assert {:ok, _result} = Task.await(task)
    end

    test "for a message that the broker will not have fails that message in the end, and no other", %{broker: broker} do
      client = start_client(broker)
      innocent = ask(client, message_id: "innocent")
      assert_receive {:published, %{message_id: "innocent"}}
      FakeBroker.event(broker, {:confirmed, 1, false})
      guilty = ask(client, message_id: "guilty")
      assert_receive {:published, %{message_id: "guilty"}}

      for _time <- 1..2 do
        FakeBroker.break(broker, gone(406, "PRECONDITION_FAILED - message size 7 is larger than max size 5"))
        assert_receive {:listening, :direct}
        confirm_all_but(broker, "guilty")
      end

      FakeBroker.break(broker, gone(406, "PRECONDITION_FAILED - message size 7 is larger than max size 5"))

      assert {:error, %Error{code: :refused, recoverable: false, message: message}} = Task.await(guilty)
      assert message =~ "The broker refused the request: PRECONDITION"

      assert Client.status(client).in_flight == 1
      Task.shutdown(innocent)
    end

    defp confirm_all_but(broker, id) do
      for seqno <- [1, 2] do
        assert_receive {:published, message}
        if message.message_id != id, do: FakeBroker.event(broker, {:confirmed, seqno, false})
      end
    end

    test "for a message above the broker's limit fails that message at once, and no other", %{broker: broker} do
      client = start_client(broker)
      innocent = ask(client, message_id: "innocent")
      assert_receive {:published, %{message_id: "innocent"}}
      guilty = Task.async(fn -> DSPexWorker.call(client, "echo", %{text: String.duplicate("a", 999)}) end)
      assert_receive {:published, %{body: body}}
      text = "PRECONDITION_FAILED - message size #{byte_size(body)} is larger than configured max size 900"
      FakeBroker.break(broker, gone(406, text))

      assert {:error, %Error{code: :body_too_large, recoverable: false}} = Task.await(guilty)
      assert_receive {:published, %{message_id: "innocent"} = message}
      FakeBroker.reply(broker, message, pong())
      assert {:ok, _result} = Task.await(innocent)
    end

    test "for a missing exchange is :no_worker, and for a forbidden one :refused", %{broker: broker} do
      client = start_client(broker)

      for {code, text, expected} <- [
            {404, "NOT_FOUND - no exchange 'dspex' in vhost '/'", :no_worker},
            {403, "ACCESS_REFUSED - access to exchange 'dspex' in vhost '/' refused for user 'a'", :refused}
          ] do
        task = ask(client)
        assert_receive {:published, _message}
        FakeBroker.break(broker, gone(code, text))
        assert {:error, %Error{code: ^expected, recoverable: recoverable?}} = Task.await(task)
        assert recoverable? == (expected == :no_worker)
        assert_receive {:listening, :direct}
      end
    end

    test "also of the reply consumer alone is mended", %{broker: broker} do
      client = start_client(broker, reply_queue: "orders")
      task = ask(client)
      assert_receive {:published, _message}
      FakeBroker.event(broker, :cancelled)
      assert_receive {:listening, {:queue, "dspex.reply.orders", 3_600_000}}
      assert_receive {:published, message}
      FakeBroker.reply(broker, message, pong())

      assert {:ok, _result} = Task.await(task)
    end
  end

  describe "the broker" do
    test "that refuses a message fails its call", %{broker: broker} do
      client = start_client(broker)
      task = ask(client)
      assert_receive {:published, _message}
      FakeBroker.event(broker, {:refused, 1, false})

      assert {:error, %Error{code: :refused, recoverable: true}} = Task.await(task)
    end

    test "that blocks its publishers is waited for", %{broker: broker} do
      client = start_client(broker, requires_worker: false)
      FakeBroker.event(broker, :blocked)
      assert Await.status(client, &(&1.connection == :blocked)).in_flight == 0
      task = ask(client)
      assert await_in_flight(client, 1) == 1
      told_all(broker)
      refute_received {:published, _message}

      FakeBroker.event(broker, :unblocked)
      assert_receive {:published, message}
      FakeBroker.reply(broker, message, pong())
      assert {:ok, _result} = Task.await(task)
    end

    defp await_in_flight(client, count), do: Await.status(client, &(&1.in_flight == count)).in_flight

    # What was published before is told by then.
    defp told_all(broker), do: :sys.get_state(broker)

    test "that cannot route a message for another reason says which", %{broker: broker} do
      client = start_client(broker)
      task = ask(client)
      assert_receive {:published, message}
      FakeBroker.event(broker, {:returned, message.correlation_id, 313, "NO_CONSUMERS"})

      assert {:error, %Error{code: :unroutable}} = Task.await(task)
    end
  end

  describe "a durable reply queue" do
    test "is named after the namespace, and its replies are acknowledged, wanted or not", %{broker: broker} do
      client = start_client(broker, namespace: "shop", reply_queue: "orders.1", reply_expires: 60_000)
      task = ask(client)
      assert_receive {:published, %Message{reply_to: "shop.reply.orders.1"} = message}
      FakeBroker.event(broker, {:reply, "of an earlier client", "{}", 1})
      assert_receive {:acked, 1}
      FakeBroker.reply(broker, message, pong())
      assert_receive {:acked, 7}

      assert {:ok, _result} = Task.await(task)
    end
  end

  describe "the process" do
    test "fails what waits with :closed when it is stopped, and closes its connection", %{broker: broker} do
      client = start_client(broker)
      task = ask(client, message_id: "order-2")
      assert_receive {:published, _message}
      stop_supervised!(Client)

      assert {:error, %Error{code: :closed, details: %{message_id: "order-2"}}} = Task.await(task)
      assert_receive :closed
    end

    @tag :capture_log
    test "takes its connection with it when it is killed", %{broker: broker} do
      client = start_client(broker)
      task = ask(client)
      assert_receive {:published, _message}
      connection = Process.monitor(:sys.get_state(client).connection)
      Process.exit(client, :kill)

      assert {:error, %Error{code: :closed}} = Task.await(task)
      assert_receive :closed
      assert_receive {:DOWN, ^connection, :process, _pid, :killed}
    end

    test "leaves no connection behind that was being made when it was stopped", %{broker: broker} do
      FakeBroker.hold_connects(broker)
      start_supervised!({Client, url: FakeBroker.url(broker), transport: FakeBroker})
      assert_receive {:opening, from}
      stop_supervised!(Client)
      GenServer.reply(from, {:ok, {broker, self()}})

      assert_receive :closed
    end

    test "shows neither URL nor inputs to who inspects it", %{broker: broker} do
      client = start_client(broker, user_id: "orders")
      task = Task.async(fn -> DSPexWorker.call(client, "ping", %{secret: "inputs-of-the-user"}) end)
      assert_receive {:published, message}
      shown = inspect(:sys.get_state(client), limit: :infinity, printable_limit: :infinity)

      refute shown =~ FakeBroker.url(broker)
      refute shown =~ "inputs-of-the-user"
      refute inspect(message) =~ "inputs-of-the-user"
      Task.shutdown(task)
    end

    test "takes the URL from a function too, anew for each connection", %{broker: broker} do
      test = self()

      url = fn ->
        send(test, {:url_asked_by, self()})
        FakeBroker.url(broker)
      end

      start_client(broker, url: url)
      assert_received {:url_asked_by, _supervisor}
      assert_received {:url_asked_by, connection}

      capture_log(fn ->
        FakeBroker.break(broker, :socket_closed)
        assert_receive {:listening, :direct}
      end)

      assert_received {:url_asked_by, ^connection}
    end

    test "refuses a mistake in its options without showing the URL" do
      url = "amqp://user:sekret@localhost"

      for {options, shown} <- [
            {[nam: :a, url: url], "[:nam]"},
            {[url: url, url: url], "[:url]"},
            {[url: "amqp://user:se#sekret@localhost"], ":url"},
            {[url: "amqp://user:se@sekret@localhost"], ":url"},
            {[url: fn -> "user:sekret" end], ":url"},
            {[url: {:sekret}], ":url"},
            {[url: ""], ":url"}
          ] do
        start = fn -> Client.start_link([transport: DSPexWorker.Transport.Erlang] ++ options) end
        error = assert_raise ArgumentError, start
        assert error.message =~ shown
        refute error.message =~ "sekret"
      end
    end

    test "refuses options that mean nothing" do
      for options <- [[], [url: 7], [url: "a", namespace: "a b"], [url: "a", timeout: -1], [url: "a", fallback: :maybe]] do
        assert_raise ArgumentError, fn -> Client.start_link([transport: FakeBroker] ++ options) end
      end
    end

    test "is one of several under a supervisor", %{broker: broker} do
      options = [url: FakeBroker.url(broker), transport: FakeBroker]

      start_supervised!(%{
        id: :clients,
        type: :supervisor,
        start:
          {Supervisor, :start_link,
           [
             [{Client, [name: :one_of_two] ++ options}, {Client, [name: :two_of_two] ++ options}],
             [strategy: :one_for_one]
           ]}
      })

      assert %{in_flight: 0} = Client.status(:one_of_two)
      assert %{in_flight: 0} = Client.status(:two_of_two)
    end
  end
end
