defmodule DSPexWorker do
  @moduledoc """
  Call DSPy programs over RabbitMQ: declare a signature, call it, get typed results.

      defmodule MyApp.Sentiment do
        @moduledoc "Detects the sentiment of a text"
        use DSPexWorker.Signature

        signature do
          input :text, :string, desc: "Text to analyse", min_length: 1
          output :sentiment, :string, one_of: ~w(positive negative neutral)
          output :confidence, :probability
        end
      end

      children = [{DSPexWorker.Client, name: MyApp.LLM, url: System.fetch_env!("AMQP_URL")}]

      {:ok, result} = DSPexWorker.predict(MyApp.LLM, MyApp.Sentiment, %{text: "I love it"})
      result.sentiment

  ## Signatures and results

  A signature is a module (`DSPexWorker.Signature`, or any that exports `__signature__/0` in DSPex's shape), a map, or a
  string such as `"text: string -> sentiment: string"`. Inputs are checked before anything is sent, outputs when they
  arrive. Results have the signature's own keys, at any depth: atoms where it is a module or names its fields and members
  with atoms, else strings. Inputs that the signature does not have are sent too, for the worker to drop with a warning.
  No atom is ever made from what a worker sends.

  The string `"question -> answer"` is sent as it is: workers know it as the program of those who declare nothing, and say
  in the warnings that it is deprecated.

  ## Options of every call

  | option | meaning |
  |---|---|
  | `:timeout` | milliseconds to wait, or `:infinity`; the client's by default. It is the job's deadline too: no worker starts the job after it |
  | `:message_id` | idempotency key: the same id with the same content runs once, however often it is sent |
  | `:traceparent` `:tracestate` | W3C trace context; by default OpenTelemetry's, where it is loaded |

  ## Options of a run: `predict/4`, `execute/4`, `execute_many/4`

  | option | meaning |
  |---|---|
  | `:full` | `true`: a `DSPexWorker.Result` with usage, warnings and more, not only the outputs |
  | `:fallback` | `:never` (default), `:create` or `:execute`: whether question and answer may run in place of the signature; its outputs are `%{answer: text}` |
  | `:lm` | an alias that the operator configured |
  | `:temperature` `:max_tokens` `:timeout_ms` `:max_lm_calls` `:max_cost_usd` `:cache` `:include_reasoning` | as in the wire contract; the reasoning comes as output `:_reasoning` |
  | `:program_type` `:use_dynamic_signature` `:config` `:demos` | as in `create_program/3`; for `predict/4` only |
  | `:options` | more options of the wire contract, as a map |

  Every function returns `{:ok, …}` or `{:error, %DSPexWorker.Error{}}`; those with a `!` raise the error. Options that do
  not exist raise `ArgumentError`.
  """

  alias DSPexWorker.Client.{Many, Reply, Request}
  alias DSPexWorker.{Client, Error, Program, Result, Telemetry}
  alias DSPexWorker.Signature.{Definition, Validator}

  @call_options [:timeout, :message_id, :traceparent, :tracestate]
  @program_options [:program_type, :use_dynamic_signature, :fallback, :lm, :config, :demos]
  @run_options [:temperature, :max_tokens, :timeout_ms, :max_lm_calls, :max_cost_usd, :cache, :include_reasoning]
  @predict_options @program_options ++ @run_options ++ [:full, :options]
  @execute_options [:fallback, :lm, :signature] ++ @run_options ++ [:full, :options]

  @typedoc "A module, a map, a string with `->`, or a definition that was read already."
  @type signature :: module | map | String.t() | Definition.t()

  @typedoc "Input field → value, with atoms or strings as keys."
  @type inputs :: map | keyword

  @type outcome(result) :: {:ok, result} | {:error, Error.t()}

  @doc """
  Runs a signature on inputs, in one message that leaves no program behind.

      DSPexWorker.predict(MyApp.LLM, MyApp.Sentiment, %{text: "I love it"})
      #=> {:ok, %{sentiment: "positive", confidence: 0.93}}

      DSPexWorker.predict(MyApp.LLM, "question -> answer: string", %{question: "Why?"}, timeout: 10_000)
      #=> {:ok, %{"answer" => "Because."}}
  """
  @spec predict(Client.t(), signature, inputs, keyword) :: outcome(map | Result.t())
  def predict(client, signature, inputs, options \\ []) do
    options = validate!(options, @predict_options)

    with {:ok, config} <- Client.config(client),
         policy = options[:fallback] || config.fallback,
         {:ok, definition, signature} <- definition(signature, policy),
         {:ok, inputs} <- check_inputs(definition, inputs) do
      args =
        options
        |> Keyword.take(@program_options)
        |> Map.new()
        |> Map.merge(%{fallback: policy, options: run_options(options, [])})

      request = %{
        request("execute_program", args, definition, options)
        | signature: signature,
          ready: %{"inputs" => inputs}
      }

      run(client, config, request, asked?(policy, options))
    end
  end

  @doc """
  Runs a program on inputs.

  With a `DSPexWorker.Program` inputs and outputs are checked against its signature. With an id alone they are left to
  the worker, and outputs have string keys, unless the option `:signature` says what the program's signature is.

      {:ok, program} = DSPexWorker.create_program(MyApp.LLM, MyApp.Sentiment)
      DSPexWorker.execute(MyApp.LLM, program, %{text: "I love it"})
      #=> {:ok, %{sentiment: "positive", confidence: 0.93}}

      DSPexWorker.execute(MyApp.LLM, "sentiment", %{text: "I love it"})
      #=> {:ok, %{"sentiment" => "positive", "confidence" => 0.93}}
  """
  @spec execute(Client.t(), Program.t() | String.t(), inputs, keyword) :: outcome(map | Result.t())
  def execute(client, program, inputs, options \\ []) do
    options = validate!(options, @execute_options)
    id = id_of!(program)

    with {:ok, config} <- Client.config(client),
         {:ok, definition} <- signature_of(program, options[:signature]),
         {:ok, inputs} <- check_inputs(definition, inputs) do
      policy = options[:fallback] || policy_of(program) || config.fallback
      given = run_options(options, [:lm]) |> Map.put(:fallback, policy)
      args = %{program_id: id, options: given}
      request = %{request("execute_program", args, definition, options) | ready: %{"inputs" => inputs}}
      run(client, config, request, asked?(policy, options))
    end
  end

  @doc """
  Runs a signature or a program on many inputs, as a lazy stream of `{:ok, …}` and `{:error, …}`.

  No more than `:max_concurrency` (100) calls are under way or wait to be taken from the stream, and inputs are taken as
  results are, so neither side may overrun the other. Results come in the order of the inputs, where a slow call holds up
  those behind it, or with `ordered: false` as they are there. Other options are those of
  `predict/4` or `execute/4`; `:message_id` is a function from inputs to an id here. A string with `->` is a signature,
  any other string a program's id.

  Who leaves the stream early, as `Enum.take/2` does, waits for no more results, but the jobs that were sent by then, up
  to `:max_concurrency` more than results were taken, are run.

      texts
      |> Stream.map(&%{text: &1})
      |> then(&DSPexWorker.execute_many(MyApp.LLM, MyApp.Sentiment, &1, max_concurrency: 20))
      |> Enum.count(&match?({:ok, %{sentiment: "positive"}}, &1))
  """
  @spec execute_many(Client.t(), signature | Program.t() | String.t(), Enumerable.t(), keyword) :: Enumerable.t()
  def execute_many(client, signature_or_program, inputs, options \\ []) do
    {name, options} = Keyword.pop(options, :message_id)
    {many, options} = Keyword.split(options, [:max_concurrency, :ordered])
    {one, known} = one(signature_or_program)
    # Here, not where the stream is consumed, which may be elsewhere.
    validate!(options, known)
    if options[:timeout], do: Request.timeout!(options[:timeout])
    name = naming!(name)
    trace = Telemetry.trace_reader(options)

    # Who is traced is the process that takes the results, not the task of a call.
    inputs
    |> Stream.map(&{&1, trace.()})
    |> Many.stream(
      fn {input, trace} -> one.(client, signature_or_program, input, Keyword.merge(options, name.(input) ++ trace)) end,
      many
    )
  end

  @doc """
  Defines a program that workers keep, and returns it.

  Options, beside those of every call: `:id` (without one, the same definition is the same program), `:program_type`
  (`:predict` or `:chain_of_thought`), `:use_dynamic_signature`, `:fallback`, `:lm`, `:config` (`temperature`,
  `max_tokens`), `:demos`, `:replace`.

      {:ok, program} = DSPexWorker.create_program(MyApp.LLM, MyApp.Sentiment, id: "sentiment", lm: "fast")
      program.id
      #=> "sentiment"
  """
  @spec create_program(Client.t(), signature, keyword) :: outcome(Program.t())
  def create_program(client, signature, options \\ []) do
    options = validate!(options, [:id, :replace | @program_options])

    with {:ok, config} <- Client.config(client),
         policy = options[:fallback] || config.fallback,
         {:ok, definition, signature} <- definition(signature, policy) do
      args =
        options
        |> Keyword.take([:id, :replace | @program_options])
        |> Map.new()
        |> Map.put(:fallback, policy)

      request = %{request("create_program", args, definition, options) | signature: signature}
      send_request(client, config, request, fn raw, _message_id -> {program(raw, definition, policy), %{}} end)
    end
  end

  @doc """
  Cancels a job by its message id, queued or running.

  `:cancelled`, `:already_cancelled`, or `:too_late`: it is done, and `get_result/3` has its reply.
  """
  @spec cancel(Client.t(), String.t(), keyword) :: outcome(:cancelled | :already_cancelled | :too_late)
  def cancel(client, message_id, options \\ []) do
    with {:ok, result} <- call(client, "cancel", %{message_id: message_id}, options) do
      case result["status"] do
        "cancelled" -> {:ok, :cancelled}
        "already_cancelled" -> {:ok, :already_cancelled}
        "too_late" -> {:ok, :too_late}
        _other -> {:error, Error.new(:invalid_reply, "The reply has no known status", details: %{reply: result})}
      end
    end
  end

  @doc """
  Fetches the kept result of a job by its message id, also one whose caller timed out or went away.

  | the job | the return |
  |---|---|
  | has ended | what it returned itself: `{:ok, outputs}`, or `{:error, error}` |
  | was cancelled | `{:error, %DSPexWorker.Error{code: :cancelled}}` |
  | is running | `{:pending, :running}` |
  | was begun, and waits for its next attempt | `{:pending, :waiting}` |
  | is not known to the workers | `{:pending, :unknown}`: it is still queued, and its result may yet come, or it was refused, is past its lifetime, or was never sent |

  With the option `:signature` (a signature or a `DSPexWorker.Program`) outputs are checked and have its keys; `:full` and
  `:fallback` are those of a run.
  """
  @spec get_result(Client.t(), String.t(), keyword) ::
          outcome(map | Result.t()) | {:pending, :running | :waiting | :unknown}
  def get_result(client, message_id, options \\ []) do
    {own, options} = Keyword.split(options, [:signature, :full, :fallback])

    with {:ok, config} <- Client.config(client),
         {:ok, definition} <- signature_of(own[:signature], own[:signature]),
         {:ok, kept} <- call(client, "get_result", %{message_id: message_id}, options) do
      run = %{
        definition: definition,
        asked: (own[:fallback] || policy_of(own[:signature]) || config.fallback) != :never,
        full: own[:full] == true,
        message_id: message_id
      }

      kept(kept, run)
    end
  end

  @doc """
  Sends any command of the wire contract and returns the reply's `result`, with string keys.

      DSPexWorker.call(MyApp.LLM, "ping")
      #=> {:ok, %{"status" => "ok", …}}

      DSPexWorker.call(MyApp.LLM, "describe", %{program_id: "sentiment"}, timeout: 5_000)
  """
  @spec call(Client.t(), String.t(), map, keyword) :: outcome(map)
  def call(client, command, args \\ %{}, options \\ []) when is_binary(command) do
    options = validate!(options, [])

    with {:ok, config} <- Client.config(client) do
      request = request(command, Map.new(args), nil, options)
      send_request(client, config, request, fn raw, _message_id -> {{:ok, raw}, %{}} end)
    end
  end

  @doc "As `predict/4`, but returns the result or raises `DSPexWorker.Error`."
  @spec predict!(Client.t(), signature, inputs, keyword) :: map | Result.t()
  def predict!(client, signature, inputs, options \\ []), do: bang!(predict(client, signature, inputs, options))

  @doc "As `execute/4`, but returns the result or raises `DSPexWorker.Error`."
  @spec execute!(Client.t(), Program.t() | String.t(), inputs, keyword) :: map | Result.t()
  def execute!(client, program, inputs, options \\ []), do: bang!(execute(client, program, inputs, options))

  @doc "As `execute_many/4`, but a stream of results that raises the first `DSPexWorker.Error`."
  @spec execute_many!(Client.t(), signature | Program.t() | String.t(), Enumerable.t(), keyword) :: Enumerable.t()
  def execute_many!(client, signature_or_program, inputs, options \\ []) do
    client |> execute_many(signature_or_program, inputs, options) |> Stream.map(&bang!/1)
  end

  @doc "As `create_program/3`, but returns the program or raises `DSPexWorker.Error`."
  @spec create_program!(Client.t(), signature, keyword) :: Program.t()
  def create_program!(client, signature, options \\ []), do: bang!(create_program(client, signature, options))

  @doc "As `cancel/3`, but returns the status or raises `DSPexWorker.Error`."
  @spec cancel!(Client.t(), String.t(), keyword) :: :cancelled | :already_cancelled | :too_late
  def cancel!(client, message_id, options \\ []), do: bang!(cancel(client, message_id, options))

  @doc "As `get_result/3`, but returns the result, `nil` where the job has not ended, or raises `DSPexWorker.Error`."
  @spec get_result!(Client.t(), String.t(), keyword) :: map | Result.t() | nil
  def get_result!(client, message_id, options \\ []) do
    case get_result(client, message_id, options) do
      {:pending, _status} -> nil
      outcome -> bang!(outcome)
    end
  end

  @doc "As `call/4`, but returns the result or raises `DSPexWorker.Error`."
  @spec call!(Client.t(), String.t(), map, keyword) :: map
  def call!(client, command, args \\ %{}, options \\ []), do: bang!(call(client, command, args, options))

  # Runs

  defp run(client, config, request, asked?) do
    run = %{definition: request.definition, asked: asked?, full: request.options[:full] == true}

    send_request(client, config, request, fn raw, message_id ->
      outcome = Reply.outputs(raw, Map.put(run, :message_id, message_id))
      {outcome, %{type: succeeded(outcome, raw), attempts: raw["attempts"], usage: raw["usage"]}}
    end)
  end

  defp succeeded({:ok, _result}, raw), do: Reply.type(raw)
  defp succeeded(_error, _raw), do: nil

  defp request(command, args, definition, options) do
    %{command: command, args: args, ready: %{}, signature: nil, definition: definition, options: options}
  end

  defp send_request(client, config, request, read) do
    with {:ok, message, timeout} <- Request.message(config, request) do
      Telemetry.span(config, metadata(config, request, message), fn ->
        with {:ok, body} <- publish(client, config, message, timeout),
             {:ok, raw} <- Reply.read(config.json, body) do
          read.(raw, message.message_id)
        else
          error -> {error, %{}}
        end
      end)
    end
  end

  # Stubs run in the process that calls, so that they see whose test it is.
  defp publish(_client, %{transport: DSPexWorker.Test} = config, message, _timeout) do
    DSPexWorker.Test.answer(config, message)
  end

  defp publish(client, _config, message, timeout), do: Client.request(client, message, timeout)

  defp metadata(config, request, message) do
    %{
      client: config.client,
      command: request.command,
      signature: request.definition && request.definition.name,
      program_id: request.args[:program_id],
      message_id: message.message_id,
      traceparent: Enum.find_value(message.headers, fn {name, _type, value} -> name == "traceparent" && value end),
      attempts: nil,
      usage: nil
    }
  end

  defp run_options(options, more) do
    given = options |> Keyword.take(@run_options ++ more) |> Map.new()
    Map.merge(Map.new(options[:options] || []), given)
  end

  defp asked?(policy, options), do: policy != :never or options[:use_dynamic_signature] == false

  defp kept(%{"status" => "done", "reply" => reply}, run) do
    with {:ok, raw} <- Reply.check(reply) do
      if is_map_key(raw, "outputs"), do: Reply.outputs(raw, run), else: {:ok, raw}
    end
  end

  defp kept(%{"status" => "running"}, _run), do: {:pending, :running}
  defp kept(%{"status" => "waiting"}, _run), do: {:pending, :waiting}
  defp kept(%{"status" => "unknown"}, _run), do: {:pending, :unknown}

  defp kept(%{"status" => "cancelled"}, run) do
    {:error, Error.new(:cancelled, "The job was cancelled before it ended", details: Map.take(run, [:message_id]))}
  end

  # Never pending: whoever waits for it would wait for ever.
  defp kept(result, run) do
    sentence = "The job has a status that this client does not know: #{inspect(result["status"], limit: 5)}"
    {:error, Error.new(:invalid_reply, sentence, details: %{reply: result, message_id: run.message_id})}
  end

  # Signatures and programs

  # With a fallback asked for, what cannot be read here is the worker's to judge.
  defp definition(signature, policy) do
    case Definition.of(signature) do
      {:ok, definition} -> {:ok, definition, as_sent(signature, definition)}
      {:error, _error} when policy != :never and (is_map(signature) or is_binary(signature)) -> unread(signature)
      {:error, error} -> {:error, error}
    end
  end

  # As text, so that the workers count question and answer as what it is, and warn of it.
  defp as_sent(signature, definition), do: if(Definition.legacy?(signature), do: signature, else: definition)

  defp unread(signature) do
    with {:ok, plain} <- Request.plain(signature, "/signature"), do: {:ok, nil, plain}
  end

  defp signature_of(%Program{fallback_used: true}, _given), do: {:ok, nil}
  defp signature_of(%Program{signature: definition}, nil), do: {:ok, definition}
  defp signature_of(_id, %Program{signature: definition}), do: {:ok, definition}
  defp signature_of(_id, nil), do: {:ok, nil}
  defp signature_of(_program, signature), do: Definition.of(signature)

  defp id_of!(%Program{id: id}), do: id
  defp id_of!(id) when is_binary(id), do: id

  defp id_of!(other) do
    raise ArgumentError,
          "execute/4 takes a program or its id, got: #{inspect(other, limit: 5)}; a signature is run with predict/4"
  end

  defp policy_of(%Program{fallback: policy}), do: policy
  defp policy_of(_id), do: nil

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

  # Many

  defp one(%Program{}), do: {&execute/4, @execute_options}

  defp one(text) when is_binary(text) do
    if String.contains?(text, "->"), do: {&predict/4, @predict_options}, else: {&execute/4, @execute_options}
  end

  defp one(_signature), do: {&predict/4, @predict_options}

  defp naming!(nil), do: fn _inputs -> [] end
  defp naming!(name) when is_function(name, 1), do: fn inputs -> [message_id: name.(inputs)] end

  defp naming!(other) do
    raise ArgumentError, ":message_id of execute_many/4 must be a function from inputs to an id, got: #{inspect(other)}"
  end

  defp validate!(options, more), do: Keyword.validate!(options, @call_options ++ more)

  defp bang!({:ok, result}), do: result
  defp bang!({:error, error}), do: raise(error)
end
