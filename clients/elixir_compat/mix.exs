# Evaluated while the project that lists this one is still on top: a path dependency leaves no other trace before it is
# compiled. The rest is lib/dspex_worker_compat/guard.ex.
if List.keymember?(Mix.Project.config()[:deps] || [], :dspex, 0) do
  raise CompileError,
    file: Path.relative_to_cwd(__ENV__.file),
    line: __ENV__.line,
    description: "dspex_worker_compat and dspex cannot be in one project, for both define DSPex"
end

defmodule DSPexWorkerCompat.MixProject do
  use Mix.Project

  def project do
    [
      app: :dspex_worker_compat,
      version: "0.2.0",
      description: "The names of DSPex's plan for dynamic signatures, on DSPexWorker",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      # RabbitMQ's own libraries come through ERL_LIBS, which newer versions of Mix would prune.
      prune_code_paths: false,
      deps: deps()
    ]
  end

  def application do
    [mod: {DSPexWorkerCompat.Application, []}, extra_applications: [:logger]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  # In its own environment it lists packages that cannot be fetched offline.
  defp deps, do: [{:dspex_worker, path: "../elixir", env: if(Mix.env() == :test, do: :test, else: :prod)}]
end
