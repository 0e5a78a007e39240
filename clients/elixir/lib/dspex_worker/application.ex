defmodule DSPexWorker.Application do
  @moduledoc false

  use Application

  @impl Application
  def start(_type, _args) do
    children = [{Registry, keys: :unique, name: DSPexWorker.Registry}]
    Supervisor.start_link(children, strategy: :one_for_one, name: DSPexWorker.Supervisor)
  end
end
