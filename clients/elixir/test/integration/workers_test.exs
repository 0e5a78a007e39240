defmodule DSPexWorker.Integration.WorkersTest do
  @moduledoc "Workers that are killed, an LM that is down, jobs that are taken back: no call is lost, none is paid twice."

  use ExUnit.Case, async: true

  alias DSPexWorker.{Client, Error, Result, Stage}

  @moduletag :integration
  @moduletag timeout: 120_000

  @answer %{sentiment: "positive", confidence: "0.9"}

  defmodule Sentiment do
    @moduledoc "Detects the sentiment of a text"
    use DSPexWorker.Signature

    signature do
      input :text, :string
      output :sentiment, :string, one_of: ~w(positive negative neutral)
      output :confidence, :probability
    end
  end

  setup_all do
    stage = Stage.start()
    {:ok, stage: stage, client: start_supervised!({Client, Stage.client(stage)})}
  end

  setup context, do: {:ok, paid: Stage.ask(context.stage, "lm_calls")}

  # A kept result has no event: each look is a round trip.
  defp fetch(client, message_id, deadline \\ System.monotonic_time(:millisecond) + 30_000) do
    case DSPexWorker.get_result(client, message_id, signature: Sentiment) do
      {:ok, outputs} ->
        outputs

      other ->
        if System.monotonic_time(:millisecond) < deadline,
          do: fetch(client, message_id, deadline),
          else: flunk(inspect(other))
    end
  end

  defp predict(client, options),
    do: DSPexWorker.predict(client, Sentiment, %{text: "I love it"}, [lm: :remote] ++ options)

  test "of 500 calls none is lost when one of two workers is killed with -9", %{
    stage: stage,
    client: client,
    paid: paid
  } do
    Stage.ask(stage, "have_workers", %{count: 2})
    Stage.ask(stage, "slow_lm", %{outputs: @answer, seconds: 0.1})
    {:ok, program} = DSPexWorker.create_program(client, Sentiment, id: "sentiment")
    inputs = Stream.map(1..500, &%{text: "job-#{&1}"})

    calling =
      Task.async(fn ->
        client
        |> DSPexWorker.execute_many(program, inputs, lm: :remote, max_concurrency: 500, timeout: 60_000)
        |> Enum.frequencies()
      end)

    Stage.ask(stage, "reach_lm", %{calls: paid + 150})
    Stage.ask(stage, "kill_worker", %{name: "worker-1"})

    assert Task.await(calling, 90_000) == %{{:ok, %{sentiment: "positive", confidence: 0.9}} => 500}
    assert Stage.ask(stage, "depth", %{queue: "execute.dead"}) == 0
    # Only what the killed worker had in hand may be asked again.
    assert (Stage.ask(stage, "lm_calls") - paid) in 500..532
  end

  test "a dead-lettered job is answered once it is replayed", %{stage: stage, client: client} do
    Stage.ask(stage, "have_workers", %{count: 1})
    Stage.ask(stage, "break_lm")

    assert {:error, %Error{code: :lm_unavailable, attempts: 2, recoverable: true}} =
             predict(client, message_id: "order-17", timeout: :infinity)

    Stage.ask(stage, "reach_depth", %{queue: "execute.dead", messages: 1})
    Stage.ask(stage, "mend_lm", %{outputs: @answer})
    assert Stage.ask(stage, "command", %{arguments: ["dead", "replay", "execute"]}) =~ "1 of 1 replayed"

    assert fetch(client, "order-17") == %{sentiment: "positive", confidence: 0.9}
    paid = Stage.ask(stage, "lm_calls")

    assert predict(client, message_id: "order-17", timeout: :infinity) ==
             {:ok, %{sentiment: "positive", confidence: 0.9}}

    assert Stage.ask(stage, "lm_calls") == paid
    assert Stage.ask(stage, "depth", %{queue: "execute.dead"}) == 0
  end

  test "a call that timed out is finished by the worker, and kept", %{stage: stage, client: client, paid: paid} do
    Stage.ask(stage, "have_workers", %{count: 1})
    Stage.ask(stage, "hold_lm")

    assert {:error, %Error{code: :timeout, details: %{message_id: "order-18"}}} =
             predict(client, message_id: "order-18", timeout: 3_000)

    assert {:pending, :running} = DSPexWorker.get_result(client, "order-18")
    Stage.ask(stage, "mend_lm", %{outputs: @answer})
    assert fetch(client, "order-18") == %{sentiment: "positive", confidence: 0.9}
    assert Stage.ask(stage, "lm_calls") == paid + 1
  end

  test "a running job can be cancelled", %{stage: stage, client: client, paid: paid} do
    Stage.ask(stage, "have_workers", %{count: 1})
    Stage.ask(stage, "hold_lm")
    calling = Task.async(fn -> predict(client, message_id: "order-19") end)
    Stage.ask(stage, "reach_lm", %{calls: paid + 1})

    assert DSPexWorker.cancel(client, "order-19") == {:ok, :cancelled}
    assert {:error, %Error{code: :cancelled}} = Task.await(calling, 30_000)
    assert {:error, %Error{code: :cancelled}} = DSPexWorker.get_result(client, "order-19")
  end

  test "a job that was enqueued outlives its client, and is awaited by another", %{stage: stage, paid: paid} do
    Stage.ask(stage, "have_workers", %{count: 1})
    Stage.ask(stage, "hold_lm")
    [sender, reader] = for id <- [:sender, :reader], do: start_client(stage, id)

    assert DSPexWorker.enqueue(sender, Sentiment, %{text: "I love it"}, lm: :remote, message_id: "order-20") ==
             {:ok, "order-20"}

    stop_supervised!(:sender)
    Stage.ask(stage, "reach_lm", %{calls: paid + 1})
    awaiting = Task.async(fn -> DSPexWorker.await_result(reader, "order-20", signature: Sentiment, full: true) end)
    Stage.ask(stage, "mend_lm", %{outputs: @answer})

    assert {:ok, %Result{outputs: %{sentiment: "positive", confidence: 0.9}}} = Task.await(awaiting, 60_000)
    assert Stage.ask(stage, "lm_calls") == paid + 1
  end

  test "a job that waits for a worker is answered by one that is started afterwards", %{stage: stage, client: client} do
    Stage.ask(stage, "have_workers", %{count: 1})
    assert {:ok, _outputs} = DSPexWorker.predict(client, Sentiment, %{text: "I love it"})
    Stage.ask(stage, "kill_workers")
    waiting = start_client(stage, :waiting)

    calling =
      Task.async(fn ->
        DSPexWorker.predict(waiting, Sentiment, %{text: "I love it"}, no_worker: {:wait, 60_000}, timeout: 5_000)
      end)

    # What an autoscaler sees.
    Stage.ask(stage, "reach_depth", %{queue: "execute", messages: 1})
    Stage.ask(stage, "have_workers", %{count: 1})
    assert {:ok, %{sentiment: _made_up}} = Task.await(calling, 90_000)
  end

  test "a result says which run it is of", %{stage: stage, client: client} do
    Stage.ask(stage, "have_workers", %{count: 1})

    assert {:ok, %Result{generation: 0, message_id: "order-21"}} =
             DSPexWorker.predict(client, Sentiment, %{text: "I love it"}, message_id: "order-21", full: true)
  end

  defp start_client(stage, id) do
    start_supervised!(Supervisor.child_spec({Client, Stage.client(stage)}, id: id))
  end

  test "without a worker a call fails at once, not after its time-out", %{stage: stage, client: client} do
    Stage.ask(stage, "have_workers", %{count: 1})
    assert {:ok, %{sentiment: _}} = DSPexWorker.predict(client, Sentiment, %{text: "I love it"})

    # The queues stay, and nobody consumes them.
    Stage.ask(stage, "kill_workers")
    fresh = start_supervised!(Supervisor.child_spec({Client, Stage.client(stage)}, id: :fresh))
    assert {:error, %Error{code: :no_worker, recoverable: true} = error} = predict(fresh, timeout: 60_000)
    assert error.details.queue =~ ".execute"

    # A client that has seen a worker finds out when a call gets no reply.
    assert {:error, %Error{code: :no_worker}} = predict(client, timeout: 500)

    Stage.ask(stage, "have_workers", %{count: 1})
    assert {:ok, %{sentiment: _}} = DSPexWorker.predict(fresh, Sentiment, %{text: "I love it"})
  end
end
