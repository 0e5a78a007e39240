defmodule DSPexWorker.Await do
  @moduledoc false

  alias DSPexWorker.Client

  @most 30_000
  @between_looks 5

  @doc "Waits until a client's status is what a test wants, and returns it; one that is not in time is a failure."
  def status(client, wanted?), do: status(client, wanted?, now() + @most)

  defp status(client, wanted?, deadline) do
    status = Client.status(client)

    cond do
      wanted?.(status) -> status
      now() > deadline -> ExUnit.Assertions.flunk("The client's status stays #{inspect(status)}")
      true -> look_again(client, wanted?, deadline)
    end
  end

  # A change of it has no event that a test could wait for.
  defp look_again(client, wanted?, deadline) do
    Process.sleep(@between_looks)
    status(client, wanted?, deadline)
  end

  defp now, do: System.monotonic_time(:millisecond)
end
