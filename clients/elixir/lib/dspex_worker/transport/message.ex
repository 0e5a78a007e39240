defmodule DSPexWorker.Transport.Message do
  @moduledoc "A request as it is published: body, properties and where it goes."

  # Inputs are the application's, and none of a crash report's business.
  @derive {Inspect, except: [:body]}
  @enforce_keys [:exchange, :routing_key, :queue, :body, :message_id]
  defstruct [:exchange, :routing_key, :queue, :body, :message_id, :correlation_id, :reply_to, :user_id, headers: []]

  @typedoc "Name, type as AMQP calls it in Erlang, value."
  @type header :: {String.t(), :long | :longstr, integer | String.t()}

  @type t :: %__MODULE__{
          exchange: String.t(),
          routing_key: String.t(),
          queue: String.t(),
          body: binary,
          message_id: String.t(),
          correlation_id: String.t() | nil,
          reply_to: String.t() | nil,
          user_id: String.t() | nil,
          headers: [header]
        }

  @direct "amq.rabbitmq.reply-to"

  @doc "The pseudo-queue of direct reply-to."
  @spec direct_reply_to() :: String.t()
  def direct_reply_to, do: @direct
end
