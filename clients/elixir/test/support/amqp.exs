# Stands in for the package `amqp` where it is not loaded: the functions that the transport calls, with the arguments,
# results and messages of its version 4, over RabbitMQ's `amqp_client`.
unless Code.ensure_loaded?(AMQP.Basic) do
  # That it is there for some tests is no reason for the others to take it.
  Application.put_env(:dspex_worker, :transport, DSPexWorker.Transport.Erlang)

  :ok = :application.load({:application, :amqp, vsn: ~c"4.1.1", applications: [:logger, :amqp_client]})

  defmodule AMQP.Connection do
    @moduledoc false

    defstruct [:pid]

    # Elements of the record that amqp_uri makes.
    @elements [virtual_host: 4, connection_timeout: 10, ssl_options: 11]

    def open(url, options) do
      {name, options} = Keyword.pop(options, :name)

      with {:ok, params} <- url |> String.to_charlist() |> :amqp_uri.parse(),
           params = Enum.reduce(options, params, fn {key, value}, to -> put_elem(to, @elements[key] - 1, value) end),
           {:ok, pid} <- :amqp_connection.start(params, name) do
        {:ok, %__MODULE__{pid: pid}}
      end
    end

    def close(%{pid: pid}), do: with(error when error != :ok <- :amqp_connection.close(pid), do: {:error, error})
  end

  # As in the package, one process for all that comes over a channel: a return must not be overtaken by its confirm.
  defmodule AMQP.Translator do
    @moduledoc false

    @properties ~w(content_type content_encoding headers delivery_mode priority correlation_id reply_to expiration
      message_id timestamp type user_id app_id cluster_id)a

    def start(channel) do
      spawn(fn ->
        Process.monitor(channel)
        translate(nil)
      end)
    end

    def tell(%{custom_consumer: translator}, receiver) do
      send(translator, {:tell, receiver})
      translator
    end

    defp translate(receiver) do
      receive do
        {:tell, receiver} ->
          Process.monitor(receiver)
          translate(receiver)

        {:DOWN, _reference, :process, _pid, _reason} ->
          :ok

        message ->
          send(receiver, translated(message))
          translate(receiver)
      end
    end

    defp translated({:"basic.consume_ok", tag}), do: {:basic_consume_ok, %{consumer_tag: tag}}
    defp translated({:"basic.cancel", tag, nowait}), do: {:basic_cancel, %{consumer_tag: tag, nowait: nowait}}
    defp translated({:"basic.ack", seqno, multiple}), do: {:basic_ack, seqno, multiple}
    defp translated({:"basic.nack", seqno, multiple, _requeue}), do: {:basic_nack, seqno, multiple}

    defp translated({{:"basic.deliver", tag, delivery, redelivered, exchange, key}, message}) do
      about = %{consumer_tag: tag, delivery_tag: delivery, redelivered: redelivered}
      with_payload(:basic_deliver, message, Map.merge(about, %{exchange: exchange, routing_key: key}))
    end

    defp translated({{:"basic.return", code, text, exchange, key}, message}) do
      about = %{reply_code: code, reply_text: text, exchange: exchange, routing_key: key}
      with_payload(:basic_return, message, about)
    end

    defp with_payload(kind, {:amqp_msg, properties, payload}, about) do
      [:P_basic | values] = Tuple.to_list(properties)
      {mode, named} = @properties |> Enum.zip(values) |> Map.new() |> Map.pop!(:delivery_mode)
      {kind, payload, named |> Map.put(:persistent, mode == 2) |> Map.merge(about)}
    end
  end

  defmodule AMQP.Channel do
    @moduledoc false

    defstruct [:conn, :pid, :custom_consumer, :channel_number]

    def open(%AMQP.Connection{pid: connection} = conn) do
      case :amqp_connection.open_channel(connection) do
        {:ok, pid} -> {:ok, %__MODULE__{conn: conn, pid: pid, custom_consumer: AMQP.Translator.start(pid)}}
        error -> {:error, error}
      end
    end

    def close(%{pid: pid}), do: with(error when error != :ok <- :amqp_channel.close(pid), do: {:error, error})
  end

  defmodule AMQP.Confirm do
    @moduledoc false

    def select(%AMQP.Channel{pid: pid}) do
      case :amqp_channel.call(pid, {:"confirm.select", false}) do
        {:"confirm.select_ok"} -> :ok
        error -> {:error, error}
      end
    end

    def register_handler(%AMQP.Channel{pid: pid} = channel, receiver) do
      :amqp_channel.register_confirm_handler(pid, AMQP.Translator.tell(channel, receiver))
    end
  end

  defmodule AMQP.Queue do
    @moduledoc false

    def declare(%AMQP.Channel{pid: pid}, queue, options) do
      passive = Keyword.get(options, :passive, false)
      durable = Keyword.get(options, :durable, false)
      arguments = Keyword.get(options, :arguments, [])

      case :amqp_channel.call(pid, {:"queue.declare", 0, queue, passive, durable, false, false, false, arguments}) do
        {:"queue.declare_ok", queue, messages, consumers} ->
          {:ok, %{queue: queue, message_count: messages, consumer_count: consumers}}

        error ->
          {:error, error}
      end
    end
  end

  defmodule AMQP.Basic do
    @moduledoc false

    def publish(%AMQP.Channel{pid: pid}, exchange, routing_key, payload, options) do
      method = {:"basic.publish", 0, exchange, routing_key, Keyword.get(options, :mandatory, false), false}
      message = {:amqp_msg, properties(options), payload}
      with error when error != :ok <- :amqp_channel.call(pid, method, message), do: {:error, error}
    end

    def ack(%AMQP.Channel{pid: pid}, tag) do
      with error when error != :ok <- :amqp_channel.call(pid, {:"basic.ack", tag, false}), do: {:error, error}
    end

    def return(%AMQP.Channel{pid: pid} = channel, receiver) do
      :amqp_channel.register_return_handler(pid, AMQP.Translator.tell(channel, receiver))
    end

    def consume(%AMQP.Channel{pid: pid} = channel, queue, receiver, options) do
      no_ack = Keyword.get(options, :no_ack, false)
      exclusive = Keyword.get(options, :exclusive, false)
      method = {:"basic.consume", 0, queue, "", false, no_ack, exclusive, false, []}

      case :amqp_channel.subscribe(pid, method, AMQP.Translator.tell(channel, receiver)) do
        {:"basic.consume_ok", tag} -> {:ok, tag}
        error -> {:error, error}
      end
    end

    defp properties(options) do
      property = &Keyword.get(options, &1, :undefined)
      mode = if options[:persistent], do: 2, else: 1

      {:P_basic, property.(:content_type), property.(:content_encoding), property.(:headers), mode, :undefined,
       property.(:correlation_id), property.(:reply_to), :undefined, property.(:message_id), property.(:timestamp),
       :undefined, property.(:user_id), :undefined, :undefined}
    end
  end
end
