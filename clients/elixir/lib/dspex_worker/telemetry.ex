defmodule DSPexWorker.Telemetry do
  @moduledoc """
  Events for `:telemetry`, where it is loaded.

  | event | measurements | metadata |
  |---|---|---|
  | `[:dspex, :request, :start]` | `system_time` `monotonic_time` | `client` `command` `signature` `program_id` `message_id` `traceparent` |
  | `[:dspex, :request, :stop]` | `duration` `monotonic_time` | the same, `result` (`:ok` or `:error`), `code` (`nil` for `:ok`), `attempts` `usage` |
  | `[:dspex, :request, :exception]` | `duration` `monotonic_time` | those of start, `kind` `reason` `stacktrace` |
  | `[:dspex, :signature, :usage]` | `count` (1) | `type` (`:dynamic`, `:legacy` or `:fallback`) `client` `signature` `program_id` |
  | `[:dspex, :signature, :performance]` | `duration` | the same |

  Durations and times are in native units, as telemetry has it. `signature` is the signature's name. The two signature
  events come for each run that succeeded. An error that a call returns is a `:stop`, also where nothing
  was sent: inputs that are refused, no worker, no client. `:exception` is for what a call raises; an option that does not
  exist raises before there is a call. `usage` is `nil` where nothing ran.

  The W3C headers `traceparent` and `tracestate` go along with each request: those given as options, else those of
  OpenTelemetry, where it is loaded.
  """

  @doc false
  @spec span(map, map, (... -> {result, map})) :: result when result: term
  def span(%{telemetry?: false}, _metadata, run), do: elem(run.(), 0)

  def span(_config, metadata, run) do
    start = System.monotonic_time()
    emit([:request, :start], %{system_time: System.system_time(), monotonic_time: start}, metadata)

    try do
      run.()
    catch
      kind, reason ->
        failure = Map.merge(metadata, %{kind: kind, reason: reason, stacktrace: __STACKTRACE__})
        emit([:request, :exception], since(start), failure)
        :erlang.raise(kind, reason, __STACKTRACE__)
    else
      {result, more} ->
        measured = since(start)
        emit([:request, :stop], measured, metadata |> Map.merge(Map.delete(more, :type)) |> Map.merge(told(result)))
        signature(more[:type], measured, metadata)
        result
    end
  end

  @doc false
  # For a call to a client that is not running, which is a call all the same.
  @spec without_client(term) :: map
  def without_client(client) do
    %{
      client: client,
      telemetry?: Code.ensure_loaded?(:telemetry),
      propagator?: Code.ensure_loaded?(:otel_propagator_text_map)
    }
  end

  @doc false
  @spec trace_headers(map, keyword) :: [{String.t(), :longstr, String.t()}]
  def trace_headers(config, options) do
    given = given(options)
    trace = if given == [] and config.propagator?, do: current(), else: given
    for {key, value} <- trace, do: {Atom.to_string(key), :longstr, to_string(value)}
  end

  @doc false
  # OpenTelemetry's context is in the process dictionary. This reads it as options, for a call in another process.
  @spec trace_reader(keyword) :: (... -> keyword)
  def trace_reader(options) do
    if given(options) == [] and Code.ensure_loaded?(:otel_propagator_text_map), do: &current/0, else: fn -> [] end
  end

  defp given(options), do: for(key <- [:traceparent, :tracestate], value = options[key], do: {key, value})

  defp current do
    headers = Map.new(:otel_propagator_text_map.inject([]))
    for key <- [:traceparent, :tracestate], value = headers[Atom.to_string(key)], do: {key, value}
  end

  defp signature(nil, _measured, _metadata), do: :ok

  defp signature(type, measured, metadata) do
    metadata = metadata |> Map.take([:client, :signature, :program_id]) |> Map.put(:type, type)
    emit([:signature, :usage], %{count: 1}, metadata)
    emit([:signature, :performance], Map.take(measured, [:duration]), metadata)
  end

  defp told({:error, %DSPexWorker.Error{} = error}), do: %{result: :error, code: error.code, attempts: error.attempts}
  defp told(_success), do: %{result: :ok, code: nil}

  defp since(start) do
    stop = System.monotonic_time()
    %{duration: stop - start, monotonic_time: stop}
  end

  defp emit(event, measurements, metadata), do: :telemetry.execute([:dspex | event], measurements, metadata)
end
