defmodule DSPexWorkerCompat.Programs do
  @moduledoc false

  # What DSPex's callers hold of a program is its id. Its signature is kept here, so that results have its keys.

  use GenServer

  alias DSPexWorker.Program

  @spec start_link(term) :: GenServer.on_start()
  def start_link(_options), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  @doc "Remembers a program under its id."
  @spec put(Program.t()) :: :ok
  def put(%Program{} = program) do
    true = :ets.insert(__MODULE__, {program.id, program})
    :ok
  end

  @doc "The program that was created here under an id, or nil."
  @spec get(String.t()) :: Program.t() | nil
  def get(id) do
    case :ets.lookup(__MODULE__, id) do
      [{^id, program}] -> program
      [] -> nil
    end
  end

  @doc "Forgets a program."
  @spec delete(String.t()) :: :ok
  def delete(id) do
    true = :ets.delete(__MODULE__, id)
    :ok
  end

  @impl GenServer
  def init([]) do
    :ets.new(__MODULE__, [:named_table, :public, read_concurrency: true])
    {:ok, nil}
  end
end
