defmodule DSPexWorker.Integration.RerunsTest do
  @moduledoc "A job that failed, sent again under its message id."

  use ExUnit.Case, async: true

  alias DSPexWorker.{Client, Error, Result, Stage}

  @moduletag :integration
  @moduletag timeout: 120_000

  @answer %{sentiment: "positive"}

  setup_all do
    stage = Stage.start()
    {:ok, stage: stage, client: start_supervised!({Client, Stage.client(stage)})}
  end

  defp predict(client, options),
    do: DSPexWorker.predict(client, "text -> sentiment: string", %{text: "I love it"}, [lm: :remote] ++ options)

  test "a failed job is repeated as a stored one, and runs again when its caller asks", %{stage: stage, client: client} do
    Stage.ask(stage, "have_workers", %{count: 1})
    Stage.ask(stage, "break_lm", %{status: 400})
    job = [message_id: "order-22"]

    assert {:error, %Error{code: :lm_invalid_request, generation: 0, stored_ms: nil}} = predict(client, job)

    assert {:error, %Error{code: :lm_invalid_request, message_id: "order-22", generation: 0, stored_ms: stored_ms}} =
             predict(client, job)

    assert is_integer(stored_ms)
    Stage.ask(stage, "mend_lm", %{outputs: @answer})
    calls = Stage.ask(stage, "lm_calls")

    assert {:ok, %Result{generation: 1, stored_ms: nil}} = predict(client, job ++ [rerun_of: 0, full: true])
    assert {:ok, %Result{generation: 1, stored_ms: stored_ms}} = predict(client, job ++ [rerun_of: 0, full: true])
    assert is_integer(stored_ms)
    assert Stage.ask(stage, "lm_calls") == calls + 1
  end
end
