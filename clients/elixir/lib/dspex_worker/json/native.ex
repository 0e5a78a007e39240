defmodule DSPexWorker.JSON.Native do
  @moduledoc "JSON with Elixir's own module, from 1.18 on."

  @behaviour DSPexWorker.JSON

  @impl DSPexWorker.JSON
  def available?, do: Code.ensure_loaded?(JSON)

  @impl DSPexWorker.JSON
  def encode(plain) do
    {:ok, JSON.encode!(plain)}
  rescue
    error -> {:error, error}
  end

  @impl DSPexWorker.JSON
  def decode(body), do: JSON.decode(body)
end
