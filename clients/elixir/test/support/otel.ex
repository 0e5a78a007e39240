# Stands in for OpenTelemetry's package where it is not loaded: the context is in the process dictionary, as there.
unless Code.ensure_loaded?(:otel_propagator_text_map) do
  defmodule :otel_propagator_text_map do
    @moduledoc false

    def inject(headers), do: Process.get(__MODULE__, []) ++ headers

    @doc "What a span that is under way in this process would add."
    def set_headers(headers), do: Process.put(__MODULE__, headers)
  end
end
