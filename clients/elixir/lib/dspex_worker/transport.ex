defmodule DSPexWorker.Transport do
  @moduledoc """
  What `DSPexWorker.Client` asks of an AMQP library, as a behaviour.

  Two implementations: `DSPexWorker.Transport.AMQP` for the package `amqp`, and `DSPexWorker.Transport.Erlang` for
  `amqp_client` as RabbitMQ ships it. The first whose library is loaded is taken; to choose yourself:

      config :dspex_worker, transport: DSPexWorker.Transport.Erlang

  or `transport:` as an option of the client. In tests, `transport: DSPexWorker.Test` answers with stubs.

  A *link* is one connection with one channel in confirm mode. Another process than the client opens it, listens on it
  and counts consumers, since each of these may block; only `publish/2`, `ack/2` and `event/1` run in the client.
  """

  alias DSPexWorker.Transport.Message

  @typedoc "One connection with its channel; opaque to the client."
  @type link :: term

  @typedoc """
  How to open a link.

    * `:url` - `amqp://` or `amqps://`
    * `:name` - what the broker's management page shows
    * `:connection_timeout` - milliseconds
    * `:ssl_options` - added to what the URL says; for `amqps://` the peer is verified unless told otherwise
  """
  @type options :: keyword

  @typedoc "Direct reply-to, or a durable queue that the broker deletes after so many milliseconds without a consumer."
  @type replies :: :direct | {:queue, name :: String.t(), expires :: pos_integer}

  @typedoc """
  What a message to the client's process means. A reply without its headers is taken too, but what only they say, such as
  its generation, is not known then.
  """
  @type event ::
          {:reply, correlation_id :: String.t() | nil, body :: binary, delivery_tag :: integer, headers :: map}
          | {:reply, correlation_id :: String.t() | nil, body :: binary, delivery_tag :: integer}
          | {:returned, correlation_id :: String.t() | nil, code :: integer, text :: String.t()}
          | {:confirmed, seqno :: integer, multiple :: boolean}
          | {:refused, seqno :: integer, multiple :: boolean}
          | :blocked
          | :unblocked
          | :cancelled
          | :ignored

  @doc "Whether the library behind this implementation is loaded."
  @callback available?() :: boolean

  @doc "Whether `open/1` can read a URL; asked when a client is started. The reason must not hold the URL."
  @callback check_url(url :: String.t()) :: :ok | {:error, reason :: term}

  @doc "Connects, and opens a channel in confirm mode, whose first publish has the sequence number 1."
  @callback open(options) :: {:ok, link} | {:error, reason :: term}

  @doc "Sends replies, returns, confirms and notices of a blocked connection to a process from now on."
  @callback listen(link, receiver :: pid, replies) :: :ok | {:error, reason :: term}

  @doc "The processes whose end is the link's end."
  @callback processes(link) :: [pid]

  @doc "Publishes a persistent, mandatory message. Does not wait for the broker."
  @callback publish(link, Message.t()) :: :ok | {:error, reason :: term}

  @doc "Acknowledges a reply from a durable queue."
  @callback ack(link, delivery_tag :: integer) :: :ok

  @doc "Counts the consumers of a queue with a passive declare on a channel of its own."
  @callback consumers(link, queue :: String.t()) :: {:ok, non_neg_integer} | :missing | {:error, reason :: term}

  @doc "Closes the connection."
  @callback close(link) :: :ok

  @doc "Says what a message to the client's process means."
  @callback event(message :: term) :: event

  @optional_callbacks check_url: 1

  @implementations [DSPexWorker.Transport.AMQP, DSPexWorker.Transport.Erlang]

  @doc """
  The implementation that is configured, else the first one whose library is loaded.

  Raises `RuntimeError` if there is none.
  """
  @spec default() :: module
  def default do
    Application.get_env(:dspex_worker, :transport) || Enum.find(@implementations, & &1.available?()) ||
      raise "no AMQP library is loaded: add :amqp to your dependencies, or set ERL_LIBS to RabbitMQ's plugins folder " <>
              "and list :amqp_client in extra_applications of your mix.exs"
  end
end
