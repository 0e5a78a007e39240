defmodule DSPexWorker.Transport.AMQP do
  @moduledoc "AMQP with the package `amqp`, as most Elixir applications have it."

  @behaviour DSPexWorker.Transport

  alias DSPexWorker.Transport.{Message, Params}

  defstruct [:connection, :channel]

  @impl DSPexWorker.Transport
  def available?, do: Code.ensure_loaded?(AMQP.Basic)

  @impl DSPexWorker.Transport
  defdelegate check_url(url), to: Params, as: :check

  @impl DSPexWorker.Transport
  def open(options) do
    with {:ok, _apps} <- Application.ensure_all_started(:amqp),
         {:ok, params} <- Params.parse(options),
         {:ok, connection} <- AMQP.Connection.open(options[:url], connection_options(params, options)) do
      open_channel(connection)
    end
  end

  @impl DSPexWorker.Transport
  def listen(%__MODULE__{connection: connection, channel: channel}, receiver, replies) do
    # The package has no function for it, but sends what amqp_client sends.
    :amqp_connection.register_blocked_handler(connection.pid, receiver)
    :ok = AMQP.Basic.return(channel, receiver)
    :ok = AMQP.Confirm.register_handler(channel, receiver)
    consume(channel, receiver, replies)
  end

  @impl DSPexWorker.Transport
  def processes(%__MODULE__{connection: connection, channel: channel}), do: [connection.pid, channel.pid]

  @impl DSPexWorker.Transport
  def publish(%__MODULE__{channel: channel}, %Message{} = message) do
    AMQP.Basic.publish(channel, message.exchange, message.routing_key, message.body, publish_options(message))
  catch
    :exit, reason -> {:error, reason}
  end

  @impl DSPexWorker.Transport
  def ack(%__MODULE__{channel: channel}, tag) do
    AMQP.Basic.ack(channel, tag)
    :ok
  catch
    :exit, _reason -> :ok
  end

  @impl DSPexWorker.Transport
  def consumers(%__MODULE__{connection: connection}, queue) do
    with {:ok, channel} <- AMQP.Channel.open(connection) do
      answer = count(channel, queue)
      if answer != :missing, do: AMQP.Channel.close(channel)
      answer
    end
  catch
    :exit, reason -> missing_or_error(reason)
  end

  @impl DSPexWorker.Transport
  def close(%__MODULE__{connection: connection}) do
    AMQP.Connection.close(connection)
    :ok
  catch
    :exit, _reason -> :ok
  end

  @impl DSPexWorker.Transport
  def event({:basic_deliver, body, meta}) do
    {:reply, text(meta.correlation_id), body, meta.delivery_tag, Params.headers(meta.headers)}
  end

  def event({:basic_return, _body, meta}) do
    {:returned, text(meta.correlation_id), meta.reply_code, meta.reply_text}
  end

  def event({:basic_ack, seqno, multiple}), do: {:confirmed, seqno, multiple}
  def event({:basic_nack, seqno, multiple}), do: {:refused, seqno, multiple}
  def event({:basic_cancel, _meta}), do: :cancelled
  def event({:"connection.blocked", _reason}), do: :blocked
  def event({:"connection.unblocked"}), do: :unblocked
  def event(_other), do: :ignored

  defp connection_options(params, options), do: [name: options[:name] || :undefined] ++ Params.extra(params)

  defp open_channel(connection) do
    with {:ok, channel} <- AMQP.Channel.open(connection),
         :ok <- AMQP.Confirm.select(channel) do
      {:ok, %__MODULE__{connection: connection, channel: channel}}
    else
      error ->
        close(%__MODULE__{connection: connection})
        {:error, error}
    end
  end

  defp consume(channel, receiver, :direct) do
    subscribe(channel, Message.direct_reply_to(), receiver, no_ack: true)
  end

  defp consume(channel, receiver, {:queue, name, expires}) do
    arguments = [{"x-expires", :long, expires}]

    with {:ok, _queue} <- AMQP.Queue.declare(channel, name, durable: true, arguments: arguments) do
      # Two clients under one name would take each other's replies.
      subscribe(channel, name, receiver, exclusive: true)
    end
  end

  defp subscribe(channel, queue, receiver, options) do
    with {:ok, _tag} <- AMQP.Basic.consume(channel, queue, receiver, options), do: :ok
  end

  defp publish_options(message) do
    [
      mandatory: true,
      persistent: true,
      content_type: "application/json",
      content_encoding: "utf-8",
      headers: message.headers,
      correlation_id: message.correlation_id,
      message_id: message.message_id,
      timestamp: message.timestamp || :undefined,
      reply_to: message.reply_to || :undefined,
      user_id: message.user_id || :undefined
    ]
  end

  defp count(channel, queue) do
    with {:ok, %{consumer_count: count}} <- AMQP.Queue.declare(channel, queue, passive: true), do: {:ok, count}
  catch
    :exit, reason -> missing_or_error(reason)
  end

  defp missing_or_error({{:shutdown, {:server_initiated_close, 404, _text}}, _call}), do: :missing
  defp missing_or_error(reason), do: {:error, reason}

  defp text(value) when is_binary(value), do: value
  defp text(_absent), do: nil
end
