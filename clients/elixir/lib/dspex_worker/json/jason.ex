defmodule DSPexWorker.JSON.Jason do
  @moduledoc "JSON with the package `jason`."

  @behaviour DSPexWorker.JSON

  @impl DSPexWorker.JSON
  def available?, do: Code.ensure_loaded?(Jason)

  @impl DSPexWorker.JSON
  def encode(plain), do: Jason.encode(plain)

  @impl DSPexWorker.JSON
  def decode(body), do: Jason.decode(body)
end
