# Stands in for the package `jason` where it is not loaded: the two functions that are called, over another library.
other = Enum.find([DSPexWorker.JSON.Native, DSPexWorker.JSON.Jsx], & &1.available?())

if other && not Code.ensure_loaded?(Jason) do
  # That it is there for some tests is no reason for the others to take it.
  Application.put_env(:dspex_worker, :json, other)

  defmodule Jason do
    @moduledoc false

    defdelegate encode(value), to: other
    defdelegate decode(body), to: other
  end
end
