defmodule DSPexWorker.Adapter do
  @moduledoc """
  DSPex's adapter behaviour, so that code written for `DSPex.Adapters.PythonPort` runs on the workers.

      config :dspex_worker, client: MyApp.LLM

  names the `DSPexWorker.Client` in your supervision tree. Then put `DSPexWorker.Adapter` where the code says
  `DSPex.Adapters.PythonPort`, or hand it to functions that take an adapter:

      {:ok, program_id} = DSPexWorker.Adapter.create_program(%{signature: MyApp.Sentiment})
      {:ok, result} = DSPexWorker.Adapter.execute_program(program_id, %{text: "I love it"})
      result["outputs"]["sentiment"]

  It has all callbacks of `DSPex.Adapters.Adapter`, and the shapes of DSPex's port: results with string keys and the
  outputs inside, reasons as the strings that DSPex matches on, `:timeout`, and `:connection_failed` (broker or workers
  are not there; the log says which). New code is better off with `DSPexWorker`, whose errors and outputs say more.

  What is different:

    * Without an id none is made up: the same definition is the same program, with one id, on every node.
    * LMs are the operator's. `configure_lm/1` succeeds where the model names a configured alias, changes nothing, and
      sends no key.
    * Question and answer in place of the signature is an error, unless `fallback:` in the configuration of the program,
      in the options of the run, or of the client asks for it.
  """

  alias DSPexWorker.{Client, Error}
  alias DSPexWorker.Signature.Definition

  require Logger

  @program_keys ~w(id signature program_type use_dynamic_signature fallback lm config demos replace)
  @call_keys [:timeout, :message_id, :traceparent, :tracestate]
  @policies %{"never" => :never, "create" => :create, "execute" => :execute}
  @unreachable [:connection, :no_worker, :closed, :refused, :unroutable]

  @type program_id :: String.t()
  @type config :: map
  @type inputs :: map
  @type options :: map | keyword
  @type reason :: String.t() | :timeout | :connection_failed | :unhealthy | :configuration_failed

  @doc """
  Defines a program. The configuration has `:signature` (a module, a map or a string) and may have `:id` and the other
  arguments of the wire contract's `create_program`; other keys, such as `:modules` and `:session_id`, are left out.
  """
  @spec create_program(config) :: {:ok, program_id} | {:error, reason}
  def create_program(config) when is_map(config) do
    {calling, config} = split(config)

    with {:ok, client} <- client_config(),
         {:ok, args} <- program_args(config, client),
         {:ok, %{"program_id" => id}} <- DSPexWorker.call(client(), "create_program", args, calling) do
      {:ok, id}
    else
      error -> failed(error)
    end
  end

  @doc "Runs a program: `{:ok, result}` with the outputs under `\"outputs\"`."
  @spec execute_program(program_id, inputs) :: {:ok, map} | {:error, reason}
  def execute_program(program_id, inputs), do: execute_program(program_id, inputs, %{})

  @doc """
  Runs a program with options: `:timeout` in milliseconds, `:message_id`, and those of the wire contract, such as `:lm`
  and `:temperature`. What the workers do not know they ignore, with a warning in the result.
  """
  @spec execute_program(program_id, inputs, options) :: {:ok, map} | {:error, reason}
  def execute_program(program_id, inputs, options) do
    {calling, options} = options |> Map.new() |> split()
    {policy, options} = pop_policy(options)
    options = Map.drop(options, [:session_id, "session_id", :pool_opts])
    given = if policy, do: [fallback: policy], else: []

    case DSPexWorker.execute(client(), program_id, inputs, [full: true, options: options] ++ given ++ calling) do
      {:ok, result} -> {:ok, result.raw}
      error -> failed(error)
    end
  end

  @doc "The ids of all programs."
  @spec list_programs() :: {:ok, [program_id]} | {:error, reason}
  def list_programs do
    with {:ok, ids} <- list_programs([]), do: {:ok, ids |> Enum.reverse() |> Enum.uniq()}
  end

  # A reply has no more than a page of them.
  defp list_programs(listed) do
    count = length(listed)

    with {:ok, %{"programs" => programs} = page} <- call("list_programs", %{offset: count}) do
      listed = Enum.reduce(programs, listed, &[&1["id"] | &2])
      if programs == [] or length(listed) >= page["total_count"], do: {:ok, listed}, else: list_programs(listed)
    end
  end

  @doc "Deletes a program."
  @spec delete_program(program_id) :: :ok | {:error, reason}
  def delete_program(program_id) do
    with {:ok, _status} <- call("delete_program", %{program_id: program_id}), do: :ok
  end

  @doc "What the workers know about a program; its id is under `\"id\"` and `:id` as well."
  @spec get_program_info(program_id) :: {:ok, map} | {:error, reason}
  def get_program_info(program_id) do
    with {:ok, info} <- call("get_program_info", %{program_id: program_id}) do
      {:ok, Map.merge(info, %{"id" => program_id, id: program_id})}
    end
  end

  @doc "Whether a worker answers."
  @spec health_check() :: :ok | {:error, reason}
  def health_check do
    case call("ping") do
      {:ok, %{"status" => "ok"}} -> :ok
      {:ok, _other} -> {:error, :unhealthy}
      error -> error
    end
  end

  @doc "The figures of one worker, and what kind of adapter this is."
  @spec get_stats() :: {:ok, map} | {:error, reason}
  def get_stats do
    with {:ok, stats} <- call("get_stats") do
      {:ok,
       Map.merge(stats, %{
         adapter_type: :dspex_worker,
         layer: :layer_3,
         python_execution: true,
         pooling_enabled: true
       })}
    end
  end

  @doc "`:ok` where `:model` names an alias that the operator configured. A key in it is not sent."
  @spec configure_lm(config) :: :ok | {:error, reason}
  def configure_lm(config) when is_map(config) do
    case call("configure_lm", Map.drop(config, [:api_key, "api_key"])) do
      {:ok, %{"status" => "configured"}} -> :ok
      {:ok, _other} -> {:error, :configuration_failed}
      error -> error
    end
  end

  @doc "The third layer: workers with real LMs."
  @spec supports_test_layer?(atom) :: boolean
  def supports_test_layer?(layer), do: layer == :layer_3

  @doc "What tests on this adapter may count on."
  @spec get_test_capabilities() :: map
  def get_test_capabilities do
    %{
      python_execution: true,
      real_ml_models: true,
      protocol_validation: true,
      deterministic_outputs: false,
      performance: :slowest,
      requires_environment: [:rabbitmq, :dspex_worker],
      full_dspy_features: false,
      production_identical: true
    }
  end

  @doc """
  An error as DSPex's port would have given it.

      iex> DSPexWorker.Adapter.reason(DSPexWorker.Error.new(:program_not_found, "Program not found: a"))
      "Program not found: a"

      iex> DSPexWorker.Adapter.reason(DSPexWorker.Error.new(:no_worker, "No worker consumes dspex.execute"))
      :connection_failed
  """
  @spec reason(Error.t()) :: reason
  # Only the client's own time-out knows the message id; the worker's is a failure of the run.
  def reason(%Error{code: :timeout, details: %{message_id: _id}}), do: :timeout
  def reason(%Error{code: code}) when code in @unreachable, do: :connection_failed
  def reason(%Error{message: message}), do: message

  @doc false
  @spec client() :: Client.t()
  def client do
    Application.get_env(:dspex_worker, :client) ||
      raise ArgumentError, "DSPexWorker.Adapter needs the name of a client: config :dspex_worker, client: MyApp.LLM"
  end

  defp client_config, do: Client.config(client())

  defp call(command, args \\ %{}) do
    with {:error, error} <- DSPexWorker.call(client(), command, args), do: failed({:error, error})
  end

  defp failed({:error, %Error{code: code} = error}) when code in @unreachable do
    Logger.warning("DSPexWorker.Adapter: #{error.message}")
    {:error, reason(error)}
  end

  defp failed({:error, %Error{} = error}), do: {:error, reason(error)}
  defp failed({:ok, _without_an_id}), do: {:error, "The reply has no program id"}

  defp program_args(config, client) do
    {policy, config} = pop_policy(config)
    args = for {key, value} <- config, name = to_string(key), name in @program_keys, into: %{}, do: {name, value}
    args = if args["id"] in [nil, ""], do: Map.delete(args, "id"), else: args

    with {:ok, signature} <- signature(args["signature"]) do
      {:ok, args |> Map.put("fallback", policy || client.fallback) |> put_signature(signature)}
    end
  end

  # What cannot be read here is the worker's to judge: its sentence is the one that DSPex knows.
  defp signature(module) when is_atom(module) and module != nil do
    with {:ok, definition} <- Definition.of(module), do: {:ok, Definition.to_wire(definition)}
  end

  defp signature(given) do
    with false <- Definition.legacy?(given), {:ok, definition} <- Definition.of(given) do
      {:ok, Definition.to_wire(definition)}
    else
      _legacy_or_error -> {:ok, given}
    end
  end

  defp put_signature(args, nil), do: Map.delete(args, "signature")
  defp put_signature(args, signature), do: Map.put(args, "signature", signature)

  defp split(given) do
    {calling, rest} = Map.split(given, @call_keys)
    {Map.to_list(calling), rest}
  end

  defp pop_policy(given) do
    {text, given} = Map.pop(given, "fallback")
    {policy, given} = Map.pop(given, :fallback, text)
    {if(is_binary(policy), do: Map.fetch!(@policies, policy), else: policy), given}
  end
end
