# Stands in for the package where it is not loaded: the same function, the events go to who attached.
unless Code.ensure_loaded?(:telemetry) do
  defmodule :telemetry do
    @moduledoc false

    def attach_many(id, events, handler, config) do
      for event <- events, do: :persistent_term.put({__MODULE__, event, id}, {handler, config})
      :ok
    end

    def execute(event, measurements, metadata) do
      for {{__MODULE__, ^event, _id}, {handler, config}} <- :persistent_term.get() do
        handler.(event, measurements, metadata, config)
      end

      :ok
    end

    def detach(id) do
      for {{__MODULE__, _event, ^id} = key, _value} <- :persistent_term.get(), do: :persistent_term.erase(key)
      :ok
    end
  end
end
