# Stands in for the package where it is not loaded: the same functions, the events go to who attached. As there, an event
# that nobody attached to costs one look-up, for the benchmark runs with this one too.
unless Code.ensure_loaded?(:telemetry) do
  defmodule :telemetry do
    @moduledoc false

    def attach_many(id, events, handler, config) do
      for event <- events, do: change(event, &[{id, handler, config} | &1])
      :ok
    end

    def execute(event, measurements, metadata) do
      for {_id, handler, config} <- handlers(event), do: handler.(event, measurements, metadata, config)
      :ok
    end

    def detach(id) do
      for {{__MODULE__, event}, _handlers} <- :persistent_term.get(), do: change(event, &List.keydelete(&1, id, 0))
      :ok
    end

    defp handlers(event), do: :persistent_term.get({__MODULE__, event}, [])

    # Tests that run at once attach to the same events.
    defp change(event, change) do
      :global.trans({__MODULE__, self()}, fn ->
        :persistent_term.put({__MODULE__, event}, change.(handlers(event)))
      end)
    end
  end
end
