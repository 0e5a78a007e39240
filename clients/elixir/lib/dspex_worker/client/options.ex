defmodule DSPexWorker.Client.Options do
  @moduledoc false

  # The options of a client, checked once: what its callers need, what its connection needs, and the rest.

  alias DSPexWorker.Transport

  @defaults [
    name: nil,
    url: nil,
    namespace: "dspex",
    timeout: 60_000,
    fallback: :never,
    requires_worker: true,
    no_worker: :fail,
    transport: nil,
    json: nil,
    reply_queue: nil,
    reply_expires: 3_600_000,
    max_body_bytes: 16_777_216,
    user_id: nil,
    connection_name: nil,
    connection_timeout: 10_000,
    ssl_options: [],
    backoff: {100, 5_000}
  ]

  @name ~r/\A[A-Za-z0-9_.@-]{1,200}\z/

  defmodule Config do
    @moduledoc false
    # What the processes that call need to know; holds no secret.
    defstruct [
      :client,
      :namespace,
      :timeout,
      :fallback,
      :requires_worker,
      :no_worker,
      :transport,
      :json,
      :max_body_bytes,
      :user_id,
      :telemetry?,
      :propagator?
    ]
  end

  @doc "What a call does where nobody consumes its queue; raises `ArgumentError` where it is nothing to do."
  @spec no_worker!(term) :: :fail | {:wait, non_neg_integer}
  def no_worker!(what) do
    if no_worker?(what),
      do: what,
      else: raise(ArgumentError, ":no_worker must be :fail or {:wait, milliseconds}, got: #{inspect(what)}")
  end

  defp no_worker?(:fail), do: true
  defp no_worker?({:wait, ms}), do: is_integer(ms) and ms >= 0
  defp no_worker?(_other), do: false

  @doc "Returns what callers may know, what the connection needs, and how replies come. Raises `ArgumentError`."
  @spec parse(keyword) :: {map, keyword, Transport.replies()}
  def parse(options) do
    options = known!(options)
    Enum.each(options, &check/1)
    transport = options.transport || Transport.default()
    check_url(transport, options.url)
    {config(options, transport), connection(options, transport), replies(options)}
  end

  # The message of `Keyword.validate!/2` shows the values too, and with them the URL with its password.
  defp known!(options) do
    case Keyword.validate(options, @defaults) do
      {:ok, options} -> Map.new(options)
      {:error, keys} -> raise ArgumentError, "unknown or repeated options of DSPexWorker.Client: #{inspect(keys)}"
    end
  end

  defp config(options, transport) do
    %Config{
      client: options.name,
      namespace: options.namespace,
      timeout: options.timeout,
      fallback: options.fallback,
      requires_worker: options.requires_worker,
      no_worker: options.no_worker,
      transport: transport,
      json: options.json || DSPexWorker.JSON.default(),
      max_body_bytes: options.max_body_bytes,
      user_id: options.user_id,
      telemetry?: Code.ensure_loaded?(:telemetry),
      propagator?: Code.ensure_loaded?(:otel_propagator_text_map)
    }
  end

  defp connection(options, transport) do
    link = [
      name: options.connection_name || "#{options.namespace} client",
      connection_timeout: options.connection_timeout,
      ssl_options: options.ssl_options
    ]

    # In a function, so that no state of a process shows the URL with its password. The client's supervisor still reports
    # the options as they were given.
    open = fn -> transport.open([{:url, told(options.url)} | link]) end
    [open: open, transport: transport, replies: replies(options), backoff: options.backoff]
  end

  defp told(url) when is_function(url, 0), do: url.()
  defp told(url), do: url

  defp replies(%{reply_queue: nil}), do: :direct

  defp replies(%{reply_queue: name, namespace: namespace, reply_expires: expires}) do
    {:queue, "#{namespace}.reply.#{name}", expires}
  end

  defp check({:namespace, name}), do: check!(name?(name), :namespace, "a short name", name)
  defp check({:timeout, ms}), do: check!(ms == :infinity or positive?(ms), :timeout, "milliseconds or :infinity", ms)
  defp check({:requires_worker, flag}), do: check!(is_boolean(flag), :requires_worker, "a boolean", flag)
  defp check({:reply_queue, name}), do: check!(name == nil or name?(name), :reply_queue, "a short name", name)
  defp check({:user_id, id}), do: check!(id == nil or is_binary(id), :user_id, "the broker user's name", id)

  defp check({:no_worker, what}), do: check!(no_worker?(what), :no_worker, ":fail or {:wait, milliseconds}", what)

  defp check({:fallback, policy}) do
    check!(policy in [:never, :create, :execute], :fallback, ":never, :create or :execute", policy)
  end

  defp check({:backoff, range}) do
    check!(match?({a, b} when is_integer(a) and a > 0 and a <= b, range), :backoff, "{first, last} milliseconds", range)
  end

  defp check({key, value}) when key in [:reply_expires, :max_body_bytes, :connection_timeout] do
    check!(positive?(value), key, "a positive integer", value)
  end

  defp check(_other), do: :ok

  defp check_url(DSPexWorker.Test, _url), do: :ok
  defp check_url(transport, url), do: transport |> read(told(url)) |> check_url!()

  defp read(transport, url) when is_binary(url) do
    if Code.ensure_loaded?(transport) and function_exported?(transport, :check_url, 1),
      do: transport.check_url(url),
      else: :ok
  end

  defp read(_transport, _url), do: {:error, :missing}

  defp check_url!(:ok), do: :ok

  # Without the value, which has a password.
  defp check_url!({:error, reason}) do
    raise ArgumentError,
          "DSPexWorker.Client needs a :url such as amqp://user:password@host/vhost, in whose parts # / % : @ are " <>
            "percent-encoded (#{inspect(reason)})"
  end

  defp check!(true, _key, _wanted, _value), do: :ok

  defp check!(false, key, wanted, value) do
    raise ArgumentError, "option #{inspect(key)} of DSPexWorker.Client must be #{wanted}, got: #{inspect(value)}"
  end

  defp name?(name), do: is_binary(name) and Regex.match?(@name, name)
  defp positive?(value), do: is_integer(value) and value > 0
end
