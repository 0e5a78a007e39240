defmodule DSPexWorkerCompat.Application do
  @moduledoc false

  use Application

  alias DSPexWorkerCompat.{Guard, Programs}

  @impl Application
  def start(_type, _arguments) do
    Guard.check_started!()
    Supervisor.start_link([Programs | client()], strategy: :one_for_one, name: DSPexWorkerCompat.Supervisor)
  end

  defp client do
    case Application.get_env(:dspex_worker_compat, :client) do
      nil -> []
      options -> [{DSPexWorker.Client, [name: DSPexWorkerCompat.Client] ++ options}]
    end
  end
end
