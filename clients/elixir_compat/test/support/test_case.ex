defmodule DSPex.TestCase do
  @moduledoc false
  # What the plan's tests use; flags and the client's name are the application's, so they are put back.

  use ExUnit.CaseTemplate

  setup context do
    on_exit(fn ->
      Application.delete_env(:dspex, :features)
      Application.delete_env(:dspex_worker, :client)
    end)

    Application.put_env(:dspex_worker, :client, client(context))
    :ok
  end

  defp client(%{integration: true}) do
    namespace = System.get_env("DSPEX_NAMESPACE", "dspex")
    start(url: System.fetch_env!("AMQP_URL"), namespace: namespace)
  end

  defp client(_unit), do: start(transport: DSPexWorker.Test)

  defp start(options) do
    ExUnit.Callbacks.start_supervised!({DSPexWorker.Client, [name: DSPex.TestCase.LLM] ++ options})
    DSPex.TestCase.LLM
  end
end
