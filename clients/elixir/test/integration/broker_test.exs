defmodule DSPexWorker.Integration.BrokerTest do
  @moduledoc "A broker that goes away, and one that allows no more than it must."

  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias DSPexWorker.{Client, Error, Stage}

  @moduletag :integration
  @moduletag timeout: 120_000

  @answer %{label: "good"}
  @signature "text -> label: string"

  setup_all do
    stage = Stage.start(own_broker: true)
    Stage.ask(stage, "have_workers", %{count: 1})
    {:ok, stage: stage}
  end

  defp start_client(stage, options \\ []) do
    start_supervised!(Supervisor.child_spec({Client, Stage.client(stage, options)}, id: make_ref()))
  end

  defp predict(client, number, options) do
    DSPexWorker.predict(client, @signature, %{text: "job-#{number}"}, options)
  end

  for {replies, options} <- [direct: [], durable: [reply_queue: "app"]] do
    @options options

    test "calls in flight are answered after the broker was killed (#{replies} replies)", %{stage: stage} do
      Stage.ask(stage, "hold_lm")
      before = Stage.ask(stage, "lm_calls")
      client = start_client(stage, @options)

      capture_log(fn ->
        calling = for number <- 1..20, do: Task.async(fn -> predict(client, number, lm: :remote) end)
        Stage.ask(stage, "reach_lm", %{calls: before + 20})
        Stage.ask(stage, "kill_broker")
        # The one that is made while nobody listens waits for the broker.
        waiting = Task.async(fn -> predict(client, 21, []) end)
        Stage.ask(stage, "start_broker")
        Stage.ask(stage, "mend_lm", %{outputs: @answer})

        assert Task.await_many(calling, 60_000) == List.duplicate({:ok, %{"label" => "good"}}, 20)
        assert {:ok, %{"label" => _made_up}} = Task.await(waiting, 60_000)
      end)

      # A lost connection is no reason to pay again.
      assert Stage.ask(stage, "lm_calls") == before + 20
      assert Client.status(client) == %{connection: :up, in_flight: 0}
    end
  end

  test "calls wait while the broker blocks publishers", %{stage: stage} do
    client = start_client(stage)
    assert {:ok, _outputs} = predict(client, 1, [])
    Stage.ask(stage, "ctl", %{arguments: ["set_vm_memory_high_watermark", "0.0000001"]})
    # The first publish is what the broker blocks a connection for.
    calling = for number <- 1..3, do: Task.async(fn -> predict(client, number, []) end)
    assert Task.yield_many(calling, 300) |> Enum.all?(&match?({_task, nil}, &1))
    Stage.ask(stage, "ctl", %{arguments: ["set_vm_memory_high_watermark", "0.6"]})

    assert [{:ok, _}, {:ok, _}, {:ok, _}] = Task.await_many(calling, 30_000)
  end

  test "a publisher of least rights needs no more, and what it may not do is an error and no endless wait",
       %{stage: stage} do
    url = Stage.ask(stage, "make_user", %{role: "publisher", name: "shop"})

    for options <- [[], [reply_queue: "shop"], [reply_queue: "shop.1", user_id: "shop"]] do
      client = start_client(stage, [url: url] ++ options)

      assert {:ok, program} = DSPexWorker.create_program(client, @signature)
      assert {:ok, %{"label" => _made_up}} = DSPexWorker.execute(client, program, %{text: "I love it"})
      assert {:ok, %{"status" => "ok"}} = DSPexWorker.call(client, "ping")
    end

    capture_log(fn ->
      foreign = start_client(stage, url: url, namespace: "billing")
      assert {:error, %Error{code: :no_worker}} = predict(foreign, 1, timeout: 5_000)

      borrowed = start_client(stage, url: url, reply_queue: "mall")
      assert {:error, %Error{code: :connection}} = predict(borrowed, 1, timeout: 1_000)
    end)
  end

  test "a namespace that is not there has no worker", %{stage: stage} do
    capture_log(fn ->
      client = start_client(stage, namespace: "nowhere")
      assert {:error, %Error{code: :no_worker}} = predict(client, 1, timeout: 30_000)
    end)
  end
end
