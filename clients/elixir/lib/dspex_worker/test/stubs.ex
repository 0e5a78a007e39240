defmodule DSPexWorker.Test.Stubs do
  @moduledoc false

  # Who made which stub. Started by the first one, so an application that has none runs without it.

  use GenServer

  @type key :: {:signature, term} | {:program, String.t()} | {:command, String.t()} | {:kept, String.t()}

  @spec put(pid | {:shared, pid}, key, term) :: :ok
  def put(owner, key, stub), do: GenServer.call(server(), {:put, owner, key, stub})

  @spec allow(pid, pid) :: :ok
  def allow(owner, process), do: GenServer.call(server(), {:allow, owner, process})

  @doc "The stub of the nearest of these processes, or of one that has allowed it, or a shared one."
  @spec find([pid], key) :: term | nil
  def find(processes, key), do: GenServer.call(server(), {:find, processes, key})

  defp server do
    case GenServer.start(__MODULE__, [], name: __MODULE__) do
      {:ok, pid} -> pid
      {:error, {:already_started, pid}} -> pid
    end
  end

  @impl GenServer
  def init([]), do: {:ok, %{stubs: %{}, allowed: %{}, owners: MapSet.new()}}

  @impl GenServer
  def handle_call({:put, owner, key, stub}, _from, state) do
    state = watch(state, pid(owner))
    {:reply, :ok, put_in(state, [:stubs, {scope(owner), key}], {pid(owner), stub})}
  end

  def handle_call({:allow, owner, process}, _from, state) do
    state = watch(state, owner)
    {:reply, :ok, put_in(state, [:allowed, process], owner)}
  end

  def handle_call({:find, processes, key}, _from, state) do
    scopes = Enum.flat_map(processes, &[&1 | List.wrap(state.allowed[&1])]) ++ [:shared]
    {:reply, Enum.find_value(scopes, &stub(state, &1, key)), state}
  end

  @impl GenServer
  def handle_info({:DOWN, _monitor, :process, owner, _reason}, state) do
    {:noreply,
     %{
       stubs: Map.reject(state.stubs, fn {_key, {by, _stub}} -> by == owner end),
       allowed: Map.reject(state.allowed, fn {process, by} -> owner in [process, by] end),
       owners: MapSet.delete(state.owners, owner)
     }}
  end

  def handle_info(_other, state), do: {:noreply, state}

  # That an owner has ended may be known here later than to the next test.
  defp stub(state, scope, key) do
    case state.stubs do
      %{{^scope, ^key} => {owner, stub}} -> if alive?(owner), do: stub
      _none -> nil
    end
  end

  defp alive?(owner), do: node(owner) != node() or Process.alive?(owner)

  defp watch(state, owner) do
    if owner in state.owners do
      state
    else
      Process.monitor(owner)
      %{state | owners: MapSet.put(state.owners, owner)}
    end
  end

  defp scope({:shared, _owner}), do: :shared
  defp scope(owner), do: owner

  defp pid({:shared, owner}), do: owner
  defp pid(owner), do: owner
end
