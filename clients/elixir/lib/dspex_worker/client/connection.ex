defmodule DSPexWorker.Client.Connection do
  @moduledoc false

  # Keeps one link open for its client: connects, connects again after a loss, and asks the broker what would block.
  #
  # The client hears, in this order: a call `{:linked, ref, link}`, so that no reply comes from an unknown link; then
  # `{:link_up, ref}`, when it may publish; then `{:link_down, ref, reason}`. Whenever there is no link it hears why, as
  # `{:no_link, sentence}`. This process is linked to the client, and closes the connection whichever way the client ends.

  use GenServer

  require Logger

  defstruct [:client, :open, :transport, :replies, :backoff, :link, :ref, monitors: %{}, attempt: 0]

  @spec start_link(keyword) :: GenServer.on_start()
  def start_link(options), do: GenServer.start_link(__MODULE__, [{:client, self()} | options])

  @doc "Asks for the consumers of a queue; the client gets `{:consumers, ref, queue, answer}`."
  @spec count(pid, reference, String.t()) :: :ok
  def count(connection, ref, queue), do: GenServer.cast(connection, {:count, ref, queue})

  @doc "Gives up the link, and connects anew."
  @spec restart(pid, reference, term) :: :ok
  def restart(connection, ref, reason), do: GenServer.cast(connection, {:restart, ref, reason})

  @impl GenServer
  def init(options) do
    Process.flag(:trap_exit, true)
    {:ok, struct!(__MODULE__, options), {:continue, :connect}}
  end

  @impl GenServer
  def handle_continue(:connect, state), do: {:noreply, connect(state)}

  @impl GenServer
  def handle_cast({:count, ref, queue}, %{ref: ref} = state) when ref != nil do
    send(state.client, {:consumers, ref, queue, state.transport.consumers(state.link, queue)})
    {:noreply, state}
  end

  def handle_cast({:restart, ref, reason}, %{ref: ref} = state) when ref != nil, do: {:noreply, lose(state, reason)}
  def handle_cast(_stale, state), do: {:noreply, state}

  @impl GenServer
  def handle_info(:connect, %{link: nil} = state), do: {:noreply, connect(state)}

  def handle_info({:DOWN, monitor, :process, _pid, reason}, state) when is_map_key(state.monitors, monitor) do
    {:noreply, lose(state, reason)}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl GenServer
  def terminate(_reason, state), do: close(state)

  defp connect(state) do
    case open(state) do
      {:ok, link} -> state |> adopt(link) |> listen()
      {:error, reason} -> try_later(state, reason)
    end
  end

  defp open(state) do
    state.open.()
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  defp adopt(state, link) do
    monitors = Map.new(state.transport.processes(link), &{Process.monitor(&1), &1})
    ref = make_ref()
    :ok = hand_over(state, ref, link)
    %{state | link: link, ref: ref, monitors: monitors}
  end

  # A client that has ended meanwhile would leave the connection open for good.
  defp hand_over(state, ref, link) do
    GenServer.call(state.client, {:linked, ref, link}, :infinity)
  catch
    :exit, _reason ->
      state.transport.close(link)
      exit(:shutdown)
  end

  defp listen(state) do
    case try_listen(state) do
      :ok ->
        send(state.client, {:link_up, state.ref})
        %{state | attempt: 0}

      {:error, reason} ->
        lose(state, reason)
    end
  end

  defp try_listen(state) do
    state.transport.listen(state.link, state.client, state.replies)
  catch
    :exit, reason -> {:error, reason}
  end

  defp lose(state, reason) do
    send(state.client, {:link_down, state.ref, reason})
    state |> close() |> try_later(reason)
  end

  defp close(%{link: nil} = state), do: state

  defp close(state) do
    Enum.each(state.monitors, fn {monitor, _pid} -> Process.demonitor(monitor, [:flush]) end)
    state.transport.close(state.link)
    %{state | link: nil, ref: nil, monitors: %{}}
  end

  defp try_later(state, reason) do
    wait = wait(state.backoff, state.attempt)
    why = brief(reason)
    send(state.client, {:no_link, why})
    Logger.warning("DSPexWorker: no connection to the broker (#{why}); next attempt in #{wait} ms")
    Process.send_after(self(), :connect, wait)
    %{state | attempt: state.attempt + 1}
  end

  # Full jitter, so that clients do not come back all at once.
  defp wait({first, last}, attempt), do: :rand.uniform(min(last, first * Integer.pow(2, min(attempt, 16))))

  # The broker's own sentence, where it said one.
  defp brief({:auth_failure, text}), do: to_string(text)
  defp brief({:shutdown, {:server_initiated_close, _code, text}}), do: to_string(text)
  defp brief({{:shutdown, {:server_initiated_close, _code, text}}, _call}), do: to_string(text)
  defp brief(:not_allowed), do: "not_allowed: the virtual host does not exist, or is not the user's"
  defp brief(reason) when is_atom(reason), do: Atom.to_string(reason)
  defp brief(reason), do: reason |> inspect(limit: 8, printable_limit: 200) |> String.slice(0, 300)
end
