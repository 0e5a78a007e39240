defmodule DSPexWorker.Client.Request do
  @moduledoc false

  # From a command and its arguments to the message that is published.

  alias DSPexWorker.Client.Options
  alias DSPexWorker.{Error, JSON}
  alias DSPexWorker.Signature.Definition
  alias DSPexWorker.Transport.Message

  @lanes %{
    "create_program" => "create",
    "create_gemini_program" => "create",
    "execute_program" => "execute",
    "execute_gemini_program" => "execute"
  }

  @doc """
  The message of a request, and how it is sent. A request has `command`, `args` that may hold any term, `ready` ones that
  are plain already, `signature` (nil, a definition, or a plain one), `options`, the message `id`, the headers of its
  `trace`, and whether it `ends` with a `:reply` or the broker's `:confirm`.
  """
  @spec message(map, map) :: {:ok, Message.t(), map} | {:error, Error.t()}
  def message(config, %{options: options, ends: ends} = request) do
    timeout = timeout!(options[:timeout] || config.timeout)
    how = %{timeout: timeout, ends: ends, no_worker: Options.no_worker!(options[:no_worker] || config.no_worker)}
    headers = rerun!(options[:rerun_of], options[:message_id]) ++ request.trace
    bound = if ends == :reply, do: timeout, else: timeout!(options[:start_within] || :infinity, :start_within)

    with {:ok, body} <- body(config, request) do
      message = build(config, request, body)
      {:ok, %{message | headers: headers, deadline: deadline(bound), reply_to: options[:reply_to]}, how}
    end
  end

  @doc "An object with string keys out of the call's arguments, or an error that names the place in `args`."
  @spec plain(term, String.t()) :: {:ok, JSON.plain()} | {:error, Error.t()}
  def plain(term, prefix \\ "") do
    with {:error, {path, problem}} <- JSON.plain(term), do: {:error, unwritable(prefix <> path, problem)}
  end

  @doc "The time-out that was given; raises `ArgumentError` where it is none."
  @spec timeout!(term, atom) :: timeout
  def timeout!(timeout, option \\ :timeout)
  def timeout!(:infinity, _option), do: :infinity
  def timeout!(ms, _option) when is_integer(ms) and ms > 0, do: ms

  def timeout!(other, option) do
    raise ArgumentError, "#{inspect(option)} must be milliseconds or :infinity, got: #{inspect(other)}"
  end

  # Without the id of the job, it would be the first run of another one.
  defp rerun!(nil, _id), do: []

  defp rerun!(generation, id) when is_integer(generation) and generation >= 0 and id != nil do
    [{"x-dspex-rerun", :long, generation}]
  end

  defp rerun!(generation, _id) do
    raise ArgumentError,
          ":rerun_of must be the generation of an error of the job whose :message_id is given too, " <>
            "got: #{inspect(generation, limit: 5)}"
  end

  defp build(config, request, body) do
    lane = Map.get(@lanes, request.command, "control")

    %Message{
      # A publisher of least rights may not use the default exchange.
      exchange: config.namespace,
      routing_key: lane,
      queue: "#{config.namespace}.#{lane}",
      body: body,
      message_id: request.id,
      user_id: config.user_id
    }
  end

  defp body(config, request) do
    with {:ok, args} <- plain(request.args),
         {:ok, body} <- write(config.json, request, Map.merge(args, request.ready)) do
      if byte_size(body) > config.max_body_bytes,
        do: {:error, Error.new(:body_too_large, "The request has #{byte_size(body)} bytes")},
        else: {:ok, body}
    end
  end

  defp write(json, %{signature: %Definition{} = definition} = request, args) do
    with {:ok, signature} <- signature(json, definition),
         {:ok, "{" <> more} <- encode(json, args) do
      {:ok, ~s({"command":"#{request.command}","args":{"signature":#{signature},#{more}})}
    end
  end

  defp write(json, %{signature: nil, command: command}, args) do
    encode(json, %{"command" => command, "args" => args})
  end

  defp write(json, %{signature: signature, command: command}, args) do
    encode(json, %{"command" => command, "args" => Map.put(args, "signature", signature)})
  end

  # What a module declares is written once, for it is most of a request. Others come from wherever, and are not kept,
  # also where a map names a module.
  defp signature(json, %Definition{} = definition) do
    case hash_of_declaring(definition) do
      nil -> encode(json, Definition.to_wire(definition))
      hash -> written(json, definition, hash)
    end
  end

  defp hash_of_declaring(%{module: nil}), do: nil

  # The hash first: a module that is loaded again in between must not keep the old text under its new hash.
  defp hash_of_declaring(%{module: module} = definition) do
    if function_exported?(module, :__dspex_worker__, 0) do
      hash = module.__info__(:md5)
      if module.__dspex_worker__() === definition, do: hash
    end
  end

  # A module may be loaded again with another definition, and its code then has another hash.
  defp written(json, %{module: module} = definition, hash) do
    case :persistent_term.get({__MODULE__, json, module}, nil) do
      {^hash, written} -> {:ok, written}
      _none_or_older -> write_once(json, definition, hash)
    end
  end

  defp write_once(json, definition, hash) do
    with {:ok, written} <- encode(json, Definition.to_wire(definition)) do
      :persistent_term.put({__MODULE__, json, definition.module}, {hash, written})
      {:ok, written}
    end
  end

  defp encode(json, document) do
    with {:error, reason} <- json.encode(document) do
      {:error, Error.new(:invalid_request, "The request cannot be written as JSON: #{inspect(reason, limit: 5)}")}
    end
  end

  defp unwritable("/inputs" <> _rest = path, problem) do
    field = path |> String.split("/") |> Enum.at(2)
    Error.new(:invalid_inputs, "Field #{field}: #{problem}", field: field, problems: [%{path: path, problem: problem}])
  end

  defp unwritable(path, problem) do
    Error.new(:invalid_request, "#{path}: #{problem}", problems: [%{path: path, problem: problem}])
  end

  @doc "The message id that was given, or a new one."
  @spec message_id(term) :: {:ok, String.t()} | {:error, Error.t()}
  def message_id(nil), do: {:ok, uuid()}

  def message_id(id) when is_binary(id) and byte_size(id) in 1..255 do
    if String.valid?(id) and not String.match?(id, ~r/[\x00-\x1f\x7f]/),
      do: {:ok, id},
      else: {:error, Error.new(:invalid_request, "message_id is not UTF-8, or holds control characters")}
  end

  def message_id(id) do
    {:error, Error.new(:invalid_request, "message_id must be text of 1 to 255 bytes, got: #{inspect(id, limit: 5)}")}
  end

  defp uuid do
    <<a::48, _::4, b::12, _::2, c::62>> = :crypto.strong_rand_bytes(16)

    <<p::binary-8, q::binary-4, r::binary-4, s::binary-4, t::binary-12>> =
      Base.encode16(<<a::48, 4::4, b::12, 2::2, c::62>>, case: :lower)

    <<p::binary, ?-, q::binary, ?-, r::binary, ?-, s::binary, ?-, t::binary>>
  end

  defp deadline(:infinity), do: nil
  defp deadline(ms), do: System.system_time(:millisecond) + ms
end
