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
  | `:no_worker` | `:fail` (default) where nobody consumes the queue, or `{:wait, milliseconds}`: see `DSPexWorker.Client` |
  | `:traceparent` `:tracestate` | W3C trace context; by default OpenTelemetry's, where it is loaded |

  ## Options of a run: `predict/4`, `execute/4`, `execute_many/4`, `enqueue/4`

  | option | meaning |
  |---|---|
  | `:full` | `true`: a `DSPexWorker.Result` with usage, warnings and more, not only the outputs |
  | `:fallback` | `:never` (default), `:create` or `:execute`: whether question and answer may run in place of the signature; its outputs are `%{answer: text}` |
  | `:rerun_of` | the `generation` of an error that the job under this `:message_id` ended with: asks for another run of it, within what is left of its budgets. Without it, the error that is kept is returned again |
  | `:lm` | an alias that the operator configured |
  | `:temperature` `:max_tokens` `:timeout_ms` `:max_lm_calls` `:max_cost_usd` `:cache` `:include_reasoning` | as in the wire contract; the reasoning comes as output `:_reasoning` |
  | `:program_type` `:use_dynamic_signature` `:config` `:demos` | as in `create_program/3`; for `predict/4` only |
  | `:options` | more options of the wire contract, as a map |

  Every function returns `{:ok, …}` or `{:error, %DSPexWorker.Error{}}`; those with a `!` raise the error. Options that do
  not exist raise `ArgumentError`.
  """

  alias DSPexWorker.Client.{Job, Kept, Many, Request, Sending}
  alias DSPexWorker.{Client, Error, Program, Result, Telemetry}
  alias DSPexWorker.Signature.Definition

  @call_options [:timeout, :message_id, :no_worker, :traceparent, :tracestate]
  @predict_options Job.program_options() ++ Job.run_options() ++ [:full, :options]
  @execute_options [:fallback, :lm, :signature] ++ Job.run_options() ++ [:full, :options]
  @enqueue_options [:rerun_of, :reply_to, :start_within]
  @reading_options [:signature, :full, :fallback]

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
    Sending.call(client, Job.predict(signature, inputs, validate!(options, [:rerun_of | @predict_options])))
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
    Sending.call(client, Job.execute(program, inputs, validate!(options, [:rerun_of | @execute_options])))
  end

  @doc """
  Sends a run of a signature or a program, and does not wait for its result.

  `{:ok, message_id}` once the broker has confirmed the job, which is durable: workers run it even if this process, client
  or node is gone by then. Under the id, `await_result/3` and `get_result/3` fetch the result, for as long as
  the workers keep results. A string with `->` is a signature, any other string a program's id.

  Options are those of `predict/4` or `execute/4`, but `:full`, which is one of reading the result, and

  | option | meaning |
  |---|---|
  | `:timeout` | milliseconds to wait for the broker; no deadline of the job |
  | `:start_within` | milliseconds after which no worker starts the job, or `:infinity`, the default |
  | `:reply_to` | the full name of a queue for the reply, which should be durable, and must be one that the workers may reply to, such as `<namespace>.reply.<name>`; by default the result is only kept |

  A reply in that queue has the job's message id as correlation id, and outlives a restart of whoever consumes it;
  `read_reply/3` reads it. The queue is yours to declare and to consume, not one that a client has as its `:reply_queue`.

      {:ok, id} = DSPexWorker.enqueue(MyApp.LLM, MyApp.Sentiment, %{text: "I love it"}, message_id: "review-17")
      id
      #=> "review-17"
  """
  @spec enqueue(Client.t(), signature | Program.t() | String.t(), inputs, keyword) :: outcome(String.t())
  def enqueue(client, signature_or_program, inputs, options \\ []) do
    {job, known} = job(signature_or_program)
    options = validate!(options, @enqueue_options ++ (known -- [:full]))
    Sending.enqueue(client, job.(signature_or_program, inputs, check_reply_to!(options)))
  end

  @doc """
  Runs a signature or a program on many inputs, as a lazy stream of `{:ok, …}` and `{:error, …}`, or of these with
  their rows.

  No more than `:max_concurrency` (100) calls are under way or wait to be taken from the stream, and inputs are taken as
  results are, so neither side may overrun the other. The time-out of a call, and with it the job's deadline, runs from
  when its row is sent, not from when the stream began. Other options are those of `predict/4` or `execute/4` but
  `:rerun_of`. A string with `->` is a signature, any other string a program's id.

  Results come in the order of the inputs, where a slow call holds up those behind it. With `ordered: false` they come as
  they are there, each with its row: `{row, outcome}`, where `row` is `%{index: …, key: …, inputs: …}`. The index counts
  from 0. The key is the index too, unless rows are given as `{key, inputs}`, as in

      reviews
      |> Stream.map(&{&1.id, %{text: &1.text}})
      |> then(&DSPexWorker.execute_many(MyApp.LLM, MyApp.Sentiment, &1, ordered: false))
      |> Enum.each(fn
        {%{key: id}, {:ok, result}} -> MyApp.Reviews.set_sentiment(id, result.sentiment)
        {%{key: id}, {:error, error}} -> Logger.warning(Exception.message(error), review: id)
      end)

  `:message_id` is a function here, from inputs, or from inputs and key, to an id.

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
    {job, known} = job(signature_or_program)
    # Here, not where the stream is consumed, which may be elsewhere.
    validate!(options, known)
    if options[:timeout], do: Request.timeout!(options[:timeout])
    name = naming!(name)
    trace = Telemetry.trace_reader(options)
    named? = many[:ordered] == false

    # Who is traced is the process that takes the results, not the task of a call.
    inputs
    |> Stream.with_index()
    |> Stream.map(fn {row, index} -> {row(row, index), trace.()} end)
    |> Many.stream(
      fn {row, trace} ->
        options = Keyword.merge(options, name.(row) ++ trace)
        outcome = Sending.call(client, job.(signature_or_program, row.inputs, options))
        if named?, do: {row, outcome}, else: outcome
      end,
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
    Sending.call(client, Job.create(signature, validate!(options, [:id, :replace | Job.program_options()])))
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
  @spec get_result(Client.t(), String.t(), keyword) :: outcome(map | Result.t()) | Kept.pending()
  def get_result(client, message_id, options \\ []) do
    {own, options} = Keyword.split(options, @reading_options)
    Kept.fetch(client, message_id, own, validate!(options, []))
  end

  @doc """
  Waits until a job has ended, and returns what `get_result/3` does then.

  Polls with jittered pauses that grow to two seconds. Workers that are away, or not started yet, are waited for
  too. After `:timeout` milliseconds, by default the client's, it is `{:error, %DSPexWorker.Error{code: :timeout}}`, and
  the job goes on. Other options are `:signature`, `:full` and `:fallback` as of `get_result/3`, and those of a trace.

      {:ok, id} = DSPexWorker.enqueue(MyApp.LLM, MyApp.Sentiment, %{text: "I love it"})
      DSPexWorker.await_result(MyApp.LLM, id, signature: MyApp.Sentiment, timeout: 300_000)
      #=> {:ok, %{sentiment: "positive", confidence: 0.93}}
  """
  @spec await_result(Client.t(), String.t(), keyword) :: outcome(map | Result.t())
  def await_result(client, message_id, options \\ []) do
    {own, options} = Keyword.split(options, @reading_options)
    Kept.await(client, message_id, own, Keyword.validate!(options, [:timeout, :traceparent, :tracestate]))
  end

  @doc """
  Reads the body of a reply that came by a queue of your own: see `enqueue/4`.

  Returns what the call would have returned. Options are `:signature`, `:full` and `:fallback` as of `get_result/3`, and
  what the message says beside its body: `:message_id`, the reply's correlation id, and `:headers`, name → value.
  """
  @spec read_reply(Client.t(), binary, keyword) :: outcome(map | Result.t())
  def read_reply(client, body, options \\ []) when is_binary(body) do
    Kept.read_reply(client, body, Keyword.validate!(options, [:message_id, :headers | @reading_options]))
  end

  @doc """
  Sends any command of the wire contract and returns the reply's `result`, with string keys.

      DSPexWorker.call(MyApp.LLM, "ping")
      #=> {:ok, %{"status" => "ok", …}}

      DSPexWorker.call(MyApp.LLM, "describe", %{program_id: "sentiment"}, timeout: 5_000)
  """
  @spec call(Client.t(), String.t(), map, keyword) :: outcome(map)
  def call(client, command, args \\ %{}, options \\ []) when is_binary(command) do
    Sending.call(client, Job.command(command, Map.new(args), validate!(options, [])))
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
    client
    |> execute_many(signature_or_program, inputs, options)
    |> Stream.map(fn
      {%{index: _number} = row, outcome} -> {row, bang!(outcome)}
      outcome -> bang!(outcome)
    end)
  end

  @doc "As `enqueue/4`, but returns the message id or raises `DSPexWorker.Error`."
  @spec enqueue!(Client.t(), signature | Program.t() | String.t(), inputs, keyword) :: String.t()
  def enqueue!(client, signature_or_program, inputs, options \\ []),
    do: bang!(enqueue(client, signature_or_program, inputs, options))

  @doc "As `await_result/3`, but returns the result or raises `DSPexWorker.Error`."
  @spec await_result!(Client.t(), String.t(), keyword) :: map | Result.t()
  def await_result!(client, message_id, options \\ []), do: bang!(await_result(client, message_id, options))

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

  # Signatures and programs

  defp job(%Program{}), do: {&Job.execute/3, @execute_options}

  defp job(text) when is_binary(text) do
    if String.contains?(text, "->"), do: {&Job.predict/3, @predict_options}, else: {&Job.execute/3, @execute_options}
  end

  defp job(_signature), do: {&Job.predict/3, @predict_options}

  defp check_reply_to!(options) do
    case options[:reply_to] do
      nil -> options
      name when is_binary(name) and byte_size(name) in 1..255 -> options
      other -> raise ArgumentError, ":reply_to must be the name of a queue, got: #{inspect(other, limit: 5)}"
    end
  end

  # Many

  defp row({key, inputs}, index), do: %{index: index, key: key, inputs: inputs}
  defp row(inputs, index), do: %{index: index, key: index, inputs: inputs}

  defp naming!(nil), do: fn _row -> [] end
  defp naming!(name) when is_function(name, 1), do: fn row -> [message_id: name.(row.inputs)] end
  defp naming!(name) when is_function(name, 2), do: fn row -> [message_id: name.(row.inputs, row.key)] end

  defp naming!(other) do
    raise ArgumentError,
          ":message_id of execute_many/4 must be a function from inputs, or from inputs and key, to an id, " <>
            "got: #{inspect(other)}"
  end

  defp validate!(options, more), do: Keyword.validate!(options, @call_options ++ more)

  defp bang!({:ok, result}), do: result
  defp bang!({:error, error}), do: raise(error)
end
