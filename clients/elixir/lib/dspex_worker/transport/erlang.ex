defmodule DSPexWorker.Transport.Erlang do
  @moduledoc """
  AMQP with Erlang's `amqp_client`, as RabbitMQ ships it: with `ERL_LIBS` at the plugins folder of a RabbitMQ server, and
  `:amqp_client` in the `extra_applications` of your `mix.exs`, no package needs to be fetched.
  """

  @behaviour DSPexWorker.Transport

  require Record
  alias DSPexWorker.Transport.{Message, Params}

  # The methods of AMQP 0-9-1, which do not change; RabbitMQ's header files would be needed at compile time.
  Record.defrecordp(:basic_publish, :"basic.publish",
    ticket: 0,
    exchange: "",
    routing_key: "",
    mandatory: false,
    immediate: false
  )

  Record.defrecordp(:basic_consume, :"basic.consume",
    ticket: 0,
    queue: "",
    consumer_tag: "",
    no_local: false,
    no_ack: false,
    exclusive: false,
    nowait: false,
    arguments: []
  )

  Record.defrecordp(:queue_declare, :"queue.declare",
    ticket: 0,
    queue: "",
    passive: false,
    durable: false,
    exclusive: false,
    auto_delete: false,
    nowait: false,
    arguments: []
  )

  Record.defrecordp(:p_basic, :P_basic,
    content_type: :undefined,
    content_encoding: :undefined,
    headers: :undefined,
    delivery_mode: :undefined,
    priority: :undefined,
    correlation_id: :undefined,
    reply_to: :undefined,
    expiration: :undefined,
    message_id: :undefined,
    timestamp: :undefined,
    type: :undefined,
    user_id: :undefined,
    app_id: :undefined,
    cluster_id: :undefined
  )

  defstruct [:connection, :channel]

  @impl DSPexWorker.Transport
  def available?, do: Code.ensure_loaded?(:amqp_connection)

  @impl DSPexWorker.Transport
  defdelegate check_url(url), to: Params, as: :check

  @impl DSPexWorker.Transport
  def open(options) do
    with {:ok, _apps} <- Application.ensure_all_started(:amqp_client),
         {:ok, params} <- Params.parse(options),
         {:ok, connection} <- :amqp_connection.start(params, options[:name] || :undefined) do
      open_channel(connection)
    end
  end

  @impl DSPexWorker.Transport
  def listen(%__MODULE__{connection: connection, channel: channel}, receiver, replies) do
    :amqp_connection.register_blocked_handler(connection, receiver)
    :amqp_channel.register_return_handler(channel, receiver)
    :amqp_channel.register_confirm_handler(channel, receiver)
    consume(channel, receiver, replies)
  end

  @impl DSPexWorker.Transport
  def processes(%__MODULE__{connection: connection, channel: channel}), do: [connection, channel]

  @impl DSPexWorker.Transport
  def publish(%__MODULE__{channel: channel}, %Message{} = message) do
    method = basic_publish(exchange: message.exchange, routing_key: message.routing_key, mandatory: true)
    :amqp_channel.cast(channel, method, {:amqp_msg, properties_of(message), message.body})
  end

  @impl DSPexWorker.Transport
  def ack(%__MODULE__{channel: channel}, tag), do: :amqp_channel.cast(channel, {:"basic.ack", tag, false})

  @impl DSPexWorker.Transport
  def consumers(%__MODULE__{connection: connection}, queue) do
    with {:ok, channel} <- :amqp_connection.open_channel(connection) do
      answer = count(channel, queue)
      if answer != :missing, do: :amqp_channel.close(channel)
      answer
    end
  catch
    :exit, reason -> missing_or_error(reason)
  end

  @impl DSPexWorker.Transport
  def close(%__MODULE__{connection: connection}) do
    :amqp_connection.close(connection, 2_000)
    :ok
  catch
    :exit, _reason -> :ok
  end

  @impl DSPexWorker.Transport
  def event({{:"basic.deliver", _tag, delivery, _redelivered, _exchange, _key}, {:amqp_msg, properties, body}}) do
    {:reply, correlation_id(properties), body, delivery, Params.headers(p_basic(properties, :headers))}
  end

  def event({{:"basic.return", code, text, _exchange, _key}, {:amqp_msg, properties, _body}}) do
    {:returned, correlation_id(properties), code, text}
  end

  def event({:"basic.ack", seqno, multiple}), do: {:confirmed, seqno, multiple}
  def event({:"basic.nack", seqno, multiple, _requeue}), do: {:refused, seqno, multiple}
  def event({:"basic.cancel", _tag, _nowait}), do: :cancelled
  def event({:"connection.blocked", _reason}), do: :blocked
  def event({:"connection.unblocked"}), do: :unblocked
  def event(_other), do: :ignored

  defp open_channel(connection) do
    with {:ok, channel} <- :amqp_connection.open_channel(connection),
         {:"confirm.select_ok"} <- :amqp_channel.call(channel, {:"confirm.select", false}) do
      {:ok, %__MODULE__{connection: connection, channel: channel}}
    else
      error ->
        close(%__MODULE__{connection: connection})
        {:error, error}
    end
  end

  defp consume(channel, receiver, :direct) do
    subscribe(channel, receiver, basic_consume(queue: Message.direct_reply_to(), no_ack: true))
  end

  defp consume(channel, receiver, {:queue, name, expires}) do
    arguments = [{"x-expires", :long, expires}]

    case :amqp_channel.call(channel, queue_declare(queue: name, durable: true, arguments: arguments)) do
      {:"queue.declare_ok", _name, _messages, _consumers} ->
        # Two clients under one name would take each other's replies.
        subscribe(channel, receiver, basic_consume(queue: name, exclusive: true))

      error ->
        {:error, error}
    end
  end

  defp subscribe(channel, receiver, method) do
    case :amqp_channel.subscribe(channel, method, receiver) do
      {:"basic.consume_ok", _tag} -> :ok
      error -> {:error, error}
    end
  end

  defp properties_of(message) do
    p_basic(
      content_type: "application/json",
      content_encoding: "utf-8",
      headers: message.headers,
      delivery_mode: 2,
      correlation_id: message.correlation_id,
      reply_to: message.reply_to || :undefined,
      message_id: message.message_id,
      timestamp: message.timestamp || :undefined,
      user_id: message.user_id || :undefined
    )
  end

  defp correlation_id(properties) do
    case p_basic(properties, :correlation_id) do
      id when is_binary(id) -> id
      _absent -> nil
    end
  end

  defp count(channel, queue) do
    case :amqp_channel.call(channel, queue_declare(queue: queue, passive: true)) do
      {:"queue.declare_ok", _name, _messages, consumers} -> {:ok, consumers}
      error -> {:error, error}
    end
  catch
    :exit, reason -> missing_or_error(reason)
  end

  defp missing_or_error({{:shutdown, {:server_initiated_close, 404, _text}}, _call}), do: :missing
  defp missing_or_error(reason), do: {:error, reason}
end
