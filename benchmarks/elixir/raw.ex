defmodule Bench.Raw do
  @moduledoc """
  AMQP as `amqp_client` has it, and nothing on top: what an application would write by hand.
  """

  @direct_reply_to "amq.rabbitmq.reply-to"

  @doc "Opens a connection with one channel."
  @spec open(String.t()) :: {pid, pid}
  def open(url) do
    {:ok, _apps} = Application.ensure_all_started(:amqp_client)
    # A URL that ends with a slash means the vhost "" to amqp_client, and "/" to everybody else.
    {:ok, params} = url |> String.trim_trailing("/") |> String.to_charlist() |> :amqp_uri.parse()
    {:ok, connection} = :amqp_connection.start(params)
    {:ok, channel} = :amqp_connection.open_channel(connection)
    {connection, channel}
  end

  @doc """
  Sends so many calls, so many of them in flight at once, from this process; returns when all are answered.

  `write` makes the body of each call, `read` gets that of each reply.
  """
  @spec call(pid, {String.t(), String.t()}, {(... -> binary), (binary -> any)}, pos_integer, pos_integer) :: :ok
  def call(channel, route, {write, _read} = json, calls, in_flight) do
    for number <- 1..in_flight, do: publish(channel, route, write.(), number)
    await(channel, route, json, in_flight + 1, calls, calls)
  end

  @doc "Has replies, confirms and returns come to this process."
  @spec listen(pid) :: :ok
  def listen(channel) do
    {:"confirm.select_ok"} = :amqp_channel.call(channel, {:"confirm.select", false})
    :ok = :amqp_channel.register_confirm_handler(channel, self())
    :ok = :amqp_channel.register_return_handler(channel, self())
    consume(channel, @direct_reply_to, true)
  end

  @doc "Answers every message of a queue with the same body, until the process ends."
  @spec echo(pid, String.t(), binary, pos_integer) :: no_return
  def echo(channel, queue, body, prefetch) do
    {:"basic.qos_ok"} = :amqp_channel.call(channel, {:"basic.qos", 0, prefetch, false})
    consume(channel, queue, false)
    answer(channel, body)
  end

  defp await(_channel, _route, _json, _next, _calls, 0), do: :ok

  defp await(channel, route, {write, read} = json, next, calls, missing) do
    receive do
      {{:"basic.deliver", _tag, _delivery, _redelivered, _exchange, _key}, {:amqp_msg, _properties, reply}} ->
        if next <= calls, do: publish(channel, route, write.(), next)
        read.(reply)
        await(channel, route, json, next + 1, calls, missing - 1)

      {:"basic.ack", _seqno, _multiple} ->
        await(channel, route, json, next, calls, missing)
    after
      60_000 -> raise "no reply came for a minute"
    end
  end

  defp answer(channel, body) do
    receive do
      {{:"basic.deliver", _tag, delivery, _redelivered, _exchange, _key}, {:amqp_msg, properties, _request}} ->
        reply = properties(correlation_id: elem(properties, 6), type: "dspex.reply", mode: 1)
        cast(channel, {"", elem(properties, 7)}, reply, body, false)
        :ok = :amqp_channel.cast(channel, {:"basic.ack", delivery, false})
        answer(channel, body)
    end
  end

  defp publish(channel, route, body, number) do
    id = Integer.to_string(number)
    header = {"x-dspex-deadline", :long, System.os_time(:millisecond) + 60_000}
    request = [correlation_id: id, message_id: "bench-" <> id, reply_to: @direct_reply_to, headers: [header], mode: 2]
    cast(channel, route, properties(request), body, true)
  end

  # A direct reply is never mandatory: RabbitMQ would deliver it, and return it too.
  defp cast(channel, {exchange, key}, properties, body, mandatory) do
    publish = {:"basic.publish", 0, exchange, key, mandatory, false}
    :ok = :amqp_channel.cast(channel, publish, {:amqp_msg, properties, body})
  end

  defp consume(channel, queue, no_ack) do
    consume = {:"basic.consume", 0, queue, "", false, no_ack, false, false, []}
    {:"basic.consume_ok", _tag} = :amqp_channel.subscribe(channel, consume, self())

    receive do
      {:"basic.consume_ok", _tag} -> :ok
    end
  end

  defp properties(given) do
    none = :undefined

    {:P_basic, "application/json", "utf-8", given[:headers] || none, given[:mode], none, given[:correlation_id],
     given[:reply_to] || none, none, given[:message_id] || none, none, given[:type] || none, none, none, none}
  end
end
