defmodule DSPexWorker.Transport.Message do
  @moduledoc "A request as it is published: body, properties and where it goes."

  # Inputs are the application's, and none of a crash report's business.
  @derive {Inspect, except: [:body]}
  @enforce_keys [:exchange, :routing_key, :queue, :body, :message_id]
  defstruct [
    :exchange,
    :routing_key,
    :queue,
    :body,
    :message_id,
    :correlation_id,
    :reply_to,
    :user_id,
    :deadline,
    :timestamp,
    headers: []
  ]

  @typedoc "Name, type as AMQP calls it in Erlang, value."
  @type header :: {String.t(), :long | :longstr, integer | String.t()}

  @typedoc """
  `deadline` is in Unix milliseconds, past which no worker starts the job, or nil. A transport need not look at it: it is
  in `headers` by the time of the publish, as `timestamp`, the time of sending in Unix seconds, is set by then.
  """
  @type t :: %__MODULE__{
          exchange: String.t(),
          routing_key: String.t(),
          queue: String.t(),
          body: binary,
          message_id: String.t(),
          correlation_id: String.t() | nil,
          reply_to: String.t() | nil,
          user_id: String.t() | nil,
          deadline: integer | nil,
          timestamp: integer | nil,
          headers: [header]
        }

  @direct "amq.rabbitmq.reply-to"

  @doc """
  The message as it is published at a time, in Unix milliseconds.

  Three values tell when its caller stops to wait: the absolute deadline, and for workers whose clock differs from the
  caller's, the time of sending and how much was left then.

      iex> message = %DSPexWorker.Transport.Message{exchange: "dspex", routing_key: "execute", queue: "dspex.execute",
      ...>   body: "{}", message_id: "order-17", deadline: 1_795_416_266_534}
      iex> sent = DSPexWorker.Transport.Message.sent_at(message, 1_795_416_206_534)
      iex> {sent.timestamp, sent.headers}
      {1_795_416_206, [{"x-dspex-deadline", :long, 1_795_416_266_534}, {"x-dspex-timeout", :long, 60_000}]}
  """
  @spec sent_at(t, integer) :: t
  def sent_at(%__MODULE__{} = message, now) do
    %{message | timestamp: div(now, 1_000), headers: bound(message.deadline, now) ++ message.headers}
  end

  defp bound(nil, _now), do: []

  defp bound(deadline, now) do
    [{"x-dspex-deadline", :long, deadline}, {"x-dspex-timeout", :long, max(deadline - now, 1)}]
  end

  @doc "The pseudo-queue of direct reply-to."
  @spec direct_reply_to() :: String.t()
  def direct_reply_to, do: @direct
end
