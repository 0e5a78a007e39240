defmodule DSPexWorker.MixProject do
  use Mix.Project

  @version "0.2.0"
  @description "Declare a signature, call it over RabbitMQ, and get typed results from DSPy workers"

  # Optional at run time: each is called only where it is loaded.
  @optional [
    AMQP.Basic,
    AMQP.Channel,
    AMQP.Confirm,
    AMQP.Connection,
    AMQP.Queue,
    JSON,
    Jason,
    :amqp_channel,
    :amqp_connection,
    :amqp_uri,
    :jsx,
    :otel_propagator_text_map,
    :telemetry
  ]

  def project do
    [
      app: :dspex_worker,
      version: @version,
      description: @description,
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      elixirc_paths: elixirc_paths(Mix.env()),
      # RabbitMQ's own libraries come through ERL_LIBS, which newer versions of Mix would prune.
      prune_code_paths: false,
      xref: [exclude: @optional],
      deps: deps(listed?()),
      package: package(),
      docs: docs()
    ]
  end

  def application do
    [mod: {DSPexWorker.Application, []}, extra_applications: [:crypto, :logger, :public_key, :ssl]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_env), do: ["lib"]

  # A listed dependency that cannot be fetched fails `mix test`, optional or not. Without Hex the same is true of every
  # command, in projects that list none of these too.
  defp listed? do
    System.get_env("DSPEX_TEST_HEX") == "1" or (Mix.env() != :test and Code.ensure_loaded?(Hex))
  end

  defp deps(false), do: []

  defp deps(true) do
    [
      {:amqp, "~> 3.3 or ~> 4.0", optional: true},
      {:jason, "~> 1.4", optional: true},
      {:telemetry, "~> 1.0", optional: true},
      {:ex_doc, "~> 0.31", only: :dev, runtime: false}
    ]
  end

  defp package do
    [licenses: ["MIT"], links: %{}, files: ~w(lib guides examples .formatter.exs mix.exs README.md)]
  end

  defp docs do
    [
      main: "readme",
      extras: ["README.md" | Path.wildcard("guides/*.md")],
      groups_for_modules: [
        Signatures: ~r/^DSPexWorker\.Signature/,
        Transports: ~r/^DSPexWorker\.Transport/,
        JSON: ~r/^DSPexWorker\.JSON/
      ]
    ]
  end
end
