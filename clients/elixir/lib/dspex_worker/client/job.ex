defmodule DSPexWorker.Client.Job do
  @moduledoc false

  # What a call asks for, before anything is checked: `prepare` does it, from the client's configuration to a request and
  # the function that reads its result. So a call that is refused here is a call all the same, to telemetry.

  alias DSPexWorker.Client.{Reply, Request}
  alias DSPexWorker.{Error, Program}
  alias DSPexWorker.Signature.{Definition, Validator}

  @enforce_keys [:command, :options, :prepare]
  defstruct [:command, :options, :prepare, :program_id, :signature]

  @type read :: (result :: map, about :: map -> {{:ok, term} | {:error, Error.t()}, map})

  @type t :: %__MODULE__{
          command: String.t(),
          options: keyword,
          prepare: (config :: map -> {:ok, map, read} | {:error, Error.t()}),
          program_id: String.t() | nil,
          signature: String.t() | nil
        }

  @program_options [:program_type, :use_dynamic_signature, :fallback, :lm, :config, :demos]
  @run_options [:temperature, :max_tokens, :timeout_ms, :max_lm_calls, :max_cost_usd, :cache, :include_reasoning]

  @doc "The options of `create_program/3` that say what the program is, and those of its runs."
  @spec program_options() :: [atom]
  def program_options, do: @program_options

  @spec run_options() :: [atom]
  def run_options, do: @run_options

  @doc "A run of a signature on inputs."
  @spec predict(DSPexWorker.signature(), DSPexWorker.inputs(), keyword) :: t
  def predict(signature, inputs, options) do
    definition = Definition.of(signature)

    prepare = fn config ->
      policy = options[:fallback] || config.fallback

      with {:ok, definition, signature} <- to_send(definition, signature, policy),
           {:ok, inputs} <- check_inputs(definition, inputs) do
        args =
          options
          |> Keyword.take(@program_options)
          |> Map.new()
          |> Map.merge(%{fallback: policy, options: run_options(options, [])})

        request = %{request("execute_program", args, options) | signature: signature, ready: %{"inputs" => inputs}}
        {:ok, request, run(definition, asked?(policy, options), options)}
      end
    end

    %__MODULE__{command: "execute_program", options: options, prepare: prepare, signature: name(definition)}
  end

  @doc "A run of a program on inputs."
  @spec execute(Program.t() | String.t(), DSPexWorker.inputs(), keyword) :: t
  def execute(program, inputs, options) do
    id = id_of!(program)
    definition = signature_of(program, options[:signature])

    prepare = fn config ->
      with {:ok, definition} <- definition,
           {:ok, inputs} <- check_inputs(definition, inputs) do
        policy = policy(program, options, config)
        given = run_options(options, [:lm]) |> Map.put(:fallback, policy)
        args = %{program_id: id, options: given}
        request = %{request("execute_program", args, options) | ready: %{"inputs" => inputs}}
        {:ok, request, run(definition, asked?(policy, options), options)}
      end
    end

    %__MODULE__{
      command: "execute_program",
      options: options,
      prepare: prepare,
      program_id: id,
      signature: name(definition)
    }
  end

  @doc "The making of a program."
  @spec create(DSPexWorker.signature(), keyword) :: t
  def create(signature, options) do
    definition = Definition.of(signature)

    prepare = fn config ->
      policy = options[:fallback] || config.fallback

      with {:ok, definition, signature} <- to_send(definition, signature, policy) do
        args = options |> Keyword.take([:id, :replace | @program_options]) |> Map.new() |> Map.put(:fallback, policy)
        request = %{request("create_program", args, options) | signature: signature}
        {:ok, request, fn raw, _about -> {program(raw, definition, policy), %{}} end}
      end
    end

    %__MODULE__{command: "create_program", options: options, prepare: prepare, signature: name(definition)}
  end

  @doc "Any command, whose result is returned as it is."
  @spec command(String.t(), map, keyword) :: t
  def command(command, args, options) do
    prepare = fn _config -> {:ok, request(command, args, options), fn raw, _about -> {{:ok, raw}, %{}} end} end
    %__MODULE__{command: command, options: options, prepare: prepare, program_id: args[:program_id]}
  end

  @doc "What `signature:` means beside a program, or alone: the definition, or nil where there is none."
  @spec signature_of(term, term) :: {:ok, Definition.t() | nil} | {:error, Error.t()}
  def signature_of(%Program{fallback_used: true}, _given), do: {:ok, nil}
  def signature_of(%Program{signature: definition}, nil), do: {:ok, definition}
  def signature_of(_id, %Program{signature: definition}), do: {:ok, definition}
  def signature_of(_id, nil), do: {:ok, nil}
  def signature_of(_program, signature), do: Definition.of(signature)

  @doc "Whether question and answer may run: as the call says, else the program, else the client."
  @spec policy(term, keyword, map) :: :never | :create | :execute
  def policy(program, options, config), do: options[:fallback] || policy_of(program) || config.fallback

  defp policy_of(%Program{fallback: policy}), do: policy
  defp policy_of(_id), do: nil

  defp request(command, args, options) do
    %{command: command, args: args, ready: %{}, signature: nil, options: options}
  end

  defp run(definition, asked?, options) do
    run = %{definition: definition, asked: asked?, full: options[:full] == true}

    fn raw, about ->
      outcome = Reply.outputs(raw, Map.merge(run, about))
      {outcome, %{type: succeeded(outcome, raw), attempts: raw["attempts"], usage: raw["usage"]}}
    end
  end

  defp succeeded({:ok, _result}, raw), do: Reply.type(raw)
  defp succeeded(_error, _raw), do: nil

  defp run_options(options, more) do
    given = options |> Keyword.take(@run_options ++ more) |> Map.new()
    Map.merge(Map.new(options[:options] || []), given)
  end

  defp asked?(policy, options), do: policy != :never or options[:use_dynamic_signature] == false

  # With a fallback asked for, what cannot be read here is the worker's to judge.
  defp to_send({:ok, definition}, signature, _policy), do: {:ok, definition, as_sent(signature, definition)}

  defp to_send({:error, _error}, signature, policy)
       when policy != :never and (is_map(signature) or is_binary(signature)) do
    with {:ok, plain} <- Request.plain(signature, "/signature"), do: {:ok, nil, plain}
  end

  defp to_send({:error, error}, _signature, _policy), do: {:error, error}

  # As text, so that the workers count question and answer as what it is, and warn of it.
  defp as_sent(signature, definition), do: if(Definition.legacy?(signature), do: signature, else: definition)

  defp name({:ok, %Definition{name: name}}), do: name
  defp name(_unread_or_none), do: nil

  defp id_of!(%Program{id: id}), do: id
  defp id_of!(id) when is_binary(id), do: id

  defp id_of!(other) do
    raise ArgumentError,
          "execute/4 takes a program or its id, got: #{inspect(other, limit: 5)}; a signature is run with predict/4"
  end

  defp program(%{"program_id" => id} = raw, definition, policy) when is_binary(id) do
    {:ok,
     %Program{
       id: id,
       signature: definition,
       version: raw["program_version"],
       fingerprint: raw["signature_fingerprint"],
       fallback: policy,
       fallback_used: raw["fallback_used"] == true,
       warnings: raw["warnings"] || [],
       raw: raw
     }}
  end

  defp program(raw, _definition, _policy) do
    {:error, Error.new(:invalid_reply, "The reply has no program id", details: %{reply: raw})}
  end

  defp check_inputs(definition, inputs) do
    with {:ok, plain} <- Request.plain(inputs, "/inputs"), do: valid_inputs(definition, object(plain))
  end

  defp valid_inputs(nil, inputs), do: {:ok, inputs}

  # What the signature does not have goes along, for the worker drops it with a warning.
  defp valid_inputs(definition, inputs) do
    with {:ok, valid} <- Validator.validate_inputs(definition, inputs) do
      {:ok, definition |> Validator.undeclared_inputs(inputs) |> Map.merge(valid)}
    end
  end

  defp object([]), do: %{}
  defp object(%{} = object), do: object

  defp object(other),
    do: raise(ArgumentError, "inputs must be a map or a keyword list, got: #{inspect(other, limit: 5)}")
end
