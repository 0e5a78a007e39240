defmodule DSPexWorker.FakeBroker do
  @moduledoc false

  # A broker in one process, for tests of what the client does when the real one does what it rarely does. It tells its
  # test all that happens: `{:opened, link}`, `{:published, message}`, `{:counted, queue}`, `{:acked, tag}`, `:closed`.

  use GenServer

  @behaviour DSPexWorker.Transport

  alias DSPexWorker.Transport.Message

  # For tests

  def start_link(test), do: GenServer.start_link(__MODULE__, test)

  def url(broker), do: broker |> :erlang.term_to_binary() |> Base.url_encode64()

  @doc "Answers of passive declares: queue → `{:ok, n}`, `:missing` or `{:error, reason}`; `{:ok, 1}` by default."
  def set_consumers(broker, queue, answer), do: GenServer.call(broker, {:consumers, queue, answer})

  @doc "What the next connects return; afterwards they succeed."
  def fail_connects(broker, reasons), do: GenServer.call(broker, {:fail_connects, reasons})

  @doc "Lets connects wait, each told as `{:opening, from}`, until `GenServer.reply/2` is given a link."
  def hold_connects(broker), do: GenServer.call(broker, :hold_connects)

  @doc "Whether publishes are answered at once with the outputs that this function makes of the request."
  def answer_with(broker, answer), do: GenServer.call(broker, {:answer_with, answer})

  def reply(broker, %Message{} = message, reply, headers \\ %{}) do
    body = if is_binary(reply), do: reply, else: encode(reply)
    event(broker, {:reply, message.correlation_id, body, 7, headers})
  end

  def event(broker, event), do: GenServer.call(broker, {:event, event})

  @doc "Breaks the link as the broker or the network would."
  def break(broker, reason), do: GenServer.call(broker, {:break, reason})

  def result(outputs, more \\ %{}) do
    run = %{"outputs" => outputs, "is_dynamic" => true, "fallback_used" => false, "attempts" => 1, "warnings" => []}
    %{"success" => true, "result" => Map.merge(run, more)}
  end

  def encode(document) do
    {:ok, body} = json().encode(document)
    body
  end

  def decode(%Message{body: body}) do
    {:ok, document} = json().decode(body)
    document
  end

  # To look for a library that is missing is slow.
  defp json do
    with nil <- :persistent_term.get(__MODULE__, nil) do
      json = DSPexWorker.JSON.default()
      :persistent_term.put(__MODULE__, json)
      json
    end
  end

  # Transport

  @impl DSPexWorker.Transport
  def available?, do: true

  @impl DSPexWorker.Transport
  def open(options) do
    {:ok, binary} = Base.url_decode64(options[:url])
    broker = :erlang.binary_to_term(binary)
    GenServer.call(broker, {:open, broker})
  end

  @impl DSPexWorker.Transport
  def listen({broker, _channel}, receiver, replies), do: GenServer.call(broker, {:listen, receiver, replies})

  @impl DSPexWorker.Transport
  def processes({_broker, channel}), do: [channel]

  @impl DSPexWorker.Transport
  def publish({broker, _channel}, message), do: GenServer.cast(broker, {:publish, message})

  @impl DSPexWorker.Transport
  def ack({broker, _channel}, tag), do: GenServer.cast(broker, {:ack, tag})

  @impl DSPexWorker.Transport
  def consumers({broker, _channel}, queue), do: GenServer.call(broker, {:count, queue})

  @impl DSPexWorker.Transport
  def close({broker, _channel}), do: GenServer.cast(broker, :close)

  @impl DSPexWorker.Transport
  def event({:fake, event}), do: event
  def event(_other), do: :ignored

  # Server

  @impl GenServer
  def init(test) do
    {:ok, %{test: test, receiver: nil, channel: nil, consumers: %{}, failures: [], held?: false, answer: nil}}
  end

  @impl GenServer
  def handle_call({:open, _broker}, _from, %{failures: [reason | rest]} = state) do
    send(state.test, {:open_failed, reason})
    {:reply, {:error, reason}, %{state | failures: rest}}
  end

  def handle_call({:open, _broker}, from, %{held?: true} = state) do
    send(state.test, {:opening, from})
    {:noreply, state}
  end

  def handle_call({:open, broker}, _from, state) do
    channel = spawn(fn -> receive do: ({:end, reason} -> exit(reason)) end)
    send(state.test, {:opened, channel})
    {:reply, {:ok, {broker, channel}}, %{state | channel: channel}}
  end

  def handle_call({:listen, receiver, replies}, _from, state) do
    send(state.test, {:listening, replies})
    {:reply, :ok, %{state | receiver: receiver}}
  end

  def handle_call({:count, queue}, _from, state) do
    send(state.test, {:counted, queue})
    {:reply, Map.get(state.consumers, queue, {:ok, 1}), state}
  end

  def handle_call({:consumers, queue, answer}, _from, state) do
    {:reply, :ok, put_in(state, [:consumers, queue], answer)}
  end

  def handle_call({:fail_connects, reasons}, _from, state), do: {:reply, :ok, %{state | failures: reasons}}
  def handle_call(:hold_connects, _from, state), do: {:reply, :ok, %{state | held?: true}}
  def handle_call({:answer_with, answer}, _from, state), do: {:reply, :ok, %{state | answer: answer}}

  def handle_call({:event, event}, _from, state) do
    send(state.receiver, {:fake, event})
    {:reply, :ok, state}
  end

  def handle_call({:break, reason}, _from, state) do
    send(state.channel, {:end, reason})
    {:reply, :ok, state}
  end

  @impl GenServer
  def handle_cast({:publish, message}, state) do
    send(state.test, {:published, message})
    if state.answer, do: send(state.receiver, {:fake, {:reply, message.correlation_id, state.answer.(message), 7}})
    {:noreply, state}
  end

  def handle_cast({:ack, tag}, state) do
    send(state.test, {:acked, tag})
    {:noreply, state}
  end

  def handle_cast(:close, state) do
    send(state.test, :closed)
    {:noreply, state}
  end
end
