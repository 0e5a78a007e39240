defmodule DSPexWorker.Transport.Params do
  @moduledoc false

  # Connection parameters that both transports share. `amqp_params_network` is kept as the tuple that `amqp_uri` makes:
  # its record needs RabbitMQ's header files at compile time.

  @virtual_host 4
  @host 5
  @connection_timeout 10
  @ssl_options 11

  @doc "Parses the URL into amqp_client's parameters, with time-out and TLS options set."
  @spec parse(DSPexWorker.Transport.options()) :: {:ok, tuple} | {:error, term}
  def parse(options) do
    case options |> Keyword.fetch!(:url) |> String.to_charlist() |> :amqp_uri.parse() do
      {:ok, params} when elem(params, 0) == :amqp_params_network -> with_host(params, options)
      {:ok, _direct} -> {:error, :url_without_host}
      # The reason holds the URL, and that a password.
      {:error, {reason, _url}} -> {:error, {:url, reason_without_url(reason)}}
    end
  end

  @doc "Whether the URL can be read."
  @spec check(String.t()) :: :ok | {:error, term}
  def check(url) do
    # As one without TLS: amqp_uri warns of TLS options that are missing before they are completed.
    with {:ok, _params} <- parse(url: String.replace(url, ~r/\Aamqps:/i, "amqp:")), do: :ok
  end

  @doc "The part of the parameters that the URL does not say, as options of the package `amqp`."
  @spec extra(tuple) :: keyword
  def extra(params) do
    [
      virtual_host: elem(params, @virtual_host - 1),
      connection_timeout: elem(params, @connection_timeout - 1),
      ssl_options: elem(params, @ssl_options - 1)
    ]
  end

  @doc "Name → value of the headers of a message; none where it has none."
  @spec headers([{String.t(), atom, term}] | :undefined) :: %{String.t() => term}
  def headers(headers) when is_list(headers), do: for({name, _type, value} <- headers, into: %{}, do: {name, value})
  def headers(_absent), do: %{}

  # The end of a password that holds an "@" would be looked up as a host.
  defp with_host(params, options) do
    if ?@ in elem(params, @host - 1), do: {:error, {:url, :at_sign_in_host}}, else: {:ok, complete(params, options)}
  end

  defp complete(params, options) do
    params
    |> put_virtual_host(elem(params, @virtual_host - 1))
    |> put_timeout(options)
    |> put_tls(elem(params, @ssl_options - 1), Keyword.get(options, :ssl_options, []))
  end

  # A URL that ends with a slash means the default one to most clients, the workers' among them.
  defp put_virtual_host(params, ""), do: :erlang.setelement(@virtual_host, params, "/")
  defp put_virtual_host(params, _name), do: params

  defp put_timeout(params, options) do
    if String.contains?(options[:url], "connection_timeout=") do
      params
    else
      :erlang.setelement(@connection_timeout, params, Keyword.get(options, :connection_timeout, 10_000))
    end
  end

  defp put_tls(params, :none, _given), do: params

  defp put_tls(params, from_url, given) do
    host = elem(params, @host - 1)
    :erlang.setelement(@ssl_options, params, from_url |> Keyword.merge(given) |> verified(host))
  end

  # Erlang's ssl does not verify the peer by default before OTP 26.
  defp verified(options, host) do
    options
    |> Keyword.put_new(:verify, :verify_peer)
    |> with_authorities()
    |> Keyword.put_new(:server_name_indication, host)
    |> Keyword.put_new(:customize_hostname_check, match_fun: :public_key.pkix_verify_hostname_match_fun(:https))
  end

  defp with_authorities(options) do
    told? = Keyword.has_key?(options, :cacerts) or Keyword.has_key?(options, :cacertfile)

    if told? or options[:verify] == :verify_none,
      do: options,
      else: Keyword.put(options, :cacerts, :public_key.cacerts_get())
  end

  defp reason_without_url(reason) when is_atom(reason), do: reason
  defp reason_without_url(reason) when is_tuple(reason), do: elem(reason, 0)
  defp reason_without_url(_reason), do: :unreadable
end
