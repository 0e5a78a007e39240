defmodule DSPexWorker.Test do
  @moduledoc """
  Stubs for your own tests: no broker, no worker, no LM.

  Start the client with this module as its transport, e.g. in `config/test.exs` of an application that passes its
  configuration on:

      config :my_app, MyApp.LLM, transport: DSPexWorker.Test

      children = [{DSPexWorker.Client, [name: MyApp.LLM] ++ Application.fetch_env!(:my_app, MyApp.LLM)}]

  Then say what a signature answers:

      test "praise is counted" do
        DSPexWorker.Test.stub(MyApp.Sentiment, fn %{text: _text} -> %{sentiment: "positive", confidence: 1.0} end)

        assert MyApp.count_praise(["I love it"]) == 1
      end

  A stub belongs to the process that made it, usually the test, and is seen by it and by the tasks that it starts, so
  tests may be `async: true`. For other processes there are `allow/2` and, in tests that are not async, `shared: true`. It
  is gone when its owner ends.

  The call goes the whole way through the client, JSON included. The function gets the inputs after they were checked,
  with the signature's own keys; what the signature does not have is dropped with a warning, as a worker does. It returns
  one of:

    * the outputs, as a map or keyword list; they must be what the signature declares, else the call raises
    * `{:error, code}` or `{:error, %DSPexWorker.Error{}}`: what the call returns
    * a `%DSPexWorker.Result{}`, to say usage, warnings or a fallback as well
  """

  alias DSPexWorker.{Error, JSON, Result}
  alias DSPexWorker.Client.Request
  alias DSPexWorker.Signature.{Definition, Place, Validator}
  alias DSPexWorker.Test.Stubs

  @typedoc "What a stub answers."
  @type answer :: map | keyword | Result.t() | {:error, Error.code()} | {:error, Error.t()}

  @doc """
  Answers a signature with a function, for the calling process.

  The first argument is a signature as `DSPexWorker.predict/4` takes it, or the id of a program that is executed by its
  id alone; its inputs have string keys, and its outputs are not checked. A program that a test creates answers as its
  signature does.

  `shared: true` makes it every process's, until the owner ends.
  """
  @spec stub(DSPexWorker.signature() | String.t(), (map -> answer), keyword) :: :ok
  def stub(signature, answer, options \\ []) when is_function(answer, 1) do
    options = Keyword.validate!(options, shared: false)
    Stubs.put(owner(options), key(signature), {definition(signature), answer})
  end

  @doc """
  Answers a command, such as `"ping"`, with a function from its arguments to its result, for the calling process.

  Without a stub, `cancel` says `:cancelled`, and `create_program` makes the program. `get_result` has what the stub of an
  enqueued job answered, for its owner and the tasks that it starts, else `{:pending, :unknown}`.
  """
  @spec stub_command(String.t(), (map -> map | {:error, Error.code() | Error.t()}), keyword) :: :ok
  def stub_command(command, answer, options \\ []) when is_binary(command) and is_function(answer, 1) do
    options = Keyword.validate!(options, shared: false)
    Stubs.put(owner(options), {:command, command}, {nil, answer})
  end

  @doc "Lets another process use the stubs of an owner, also those that are made later."
  @spec allow(owner :: pid, pid | atom) :: :ok
  def allow(owner \\ self(), process) when is_pid(owner) do
    case GenServer.whereis(process) do
      pid when is_pid(pid) -> Stubs.allow(owner, pid)
      _none -> raise ArgumentError, "no process #{inspect(process)} is running"
    end
  end

  @doc false
  @spec answer(map, DSPexWorker.Transport.Message.t(), :reply | :confirm) ::
          {:ok, {binary, map} | :confirmed} | {:error, Error.t()}
  def answer(config, message, ends) do
    {:ok, %{"command" => command, "args" => args}} = config.json.decode(message.body)

    case {reply(command, args), ends} do
      {{:ok, result}, :reply} -> {:ok, {encode(config, %{"success" => true, "result" => result}), %{}}}
      {{:error, error}, :reply} -> {:error, error}
      {answer, :confirm} -> keep(config, message.message_id, answer)
    end
  end

  defp encode(config, reply) do
    {:ok, plain} = JSON.plain(reply)
    {:ok, body} = config.json.encode(plain)
    body
  end

  # For get_result, as it comes out of JSON.
  defp keep(config, message_id, answer) do
    {:ok, document} = config.json.decode(encode(config, document(answer)))
    Stubs.put(List.last(processes()), {:kept, message_id}, document)
    {:ok, :confirmed}
  end

  defp document({:ok, result}), do: %{"success" => true, "result" => result}

  defp document({:error, error}) do
    detail = Map.take(error, [:code, :recoverable, :retry_after, :problems, :field, :attempts])
    %{"success" => false, "error" => error.message, "error_detail" => detail}
  end

  defp reply("execute_program", args), do: execute(args)

  defp reply(command, args) do
    case Stubs.find(processes(), {:command, command}) do
      {_definition, answer} -> answer |> apply([args]) |> told()
      nil -> default(command, args)
    end
  end

  defp told({:error, error}), do: {:error, error(error)}
  defp told(%{} = result), do: {:ok, result}

  defp default("create_program", args), do: create(args)
  defp default("cancel", args), do: {:ok, %{"message_id" => args["message_id"], "status" => "cancelled"}}

  defp default("get_result", args) do
    kept = Stubs.find(processes(), {:kept, args["message_id"]})
    status = if kept, do: "done", else: "unknown"
    {:ok, %{"message_id" => args["message_id"], "status" => status, "reply" => kept}}
  end

  defp default(command, _args) do
    raise "no stub for the command #{inspect(command)}: see DSPexWorker.Test.stub_command/3"
  end

  defp create(args) do
    key = wire_key(args["signature"])
    id = args["id"] || "sig-" <> (key |> :erlang.term_to_binary() |> hash() |> binary_part(0, 32))
    Stubs.put(List.last(processes()), {:program, id}, {:same_as, key})

    {:ok,
     %{
       "program_id" => id,
       "status" => "created",
       "program_version" => 1,
       "is_dynamic" => dynamic?(args),
       "fallback_used" => false,
       "warnings" => []
     }}
  end

  defp execute(args) do
    {definition, answer} = find(args) || raise(no_stub(args))

    with {:ok, inputs} <- own_inputs(definition, args["inputs"]) do
      answer |> apply([inputs]) |> result(definition, args)
    end
  end

  defp find(%{"signature" => signature}), do: Stubs.find(processes(), wire_key(signature))

  defp find(%{"program_id" => id}) do
    case Stubs.find(processes(), {:program, id}) do
      {:same_as, key} -> Stubs.find(processes(), key)
      found -> found
    end
  end

  defp result({:error, error}, _definition, _args), do: {:error, error(error)}

  defp result(%Result{} = result, definition, args) do
    outputs = if result.fallback_used, do: plain!(result.outputs), else: check(definition, result.outputs)

    {:ok,
     Map.merge(run(args, outputs), %{
       "usage" => result.usage,
       "warnings" => dropped(definition, args) ++ result.warnings,
       "attempts" => result.attempts,
       "is_dynamic" => result.dynamic and not result.fallback_used,
       "fallback_used" => result.fallback_used,
       "fallback_reason" => result.fallback_reason
     })}
  end

  defp result(outputs, definition, args) do
    {:ok, %{run(args, check(definition, outputs)) | "warnings" => dropped(definition, args)}}
  end

  defp run(args, outputs) do
    %{
      "program_id" => args["program_id"],
      "outputs" => outputs,
      "is_dynamic" => dynamic?(args),
      "fallback_used" => false,
      "fallback_reason" => nil,
      "usage" => %{"lm_calls" => 1, "prompt_tokens" => 0, "completion_tokens" => 0, "cost_usd" => nil},
      "attempts" => 1,
      "execution_time" => 0.0,
      "warnings" => []
    }
  end

  defp check(nil, outputs), do: plain!(outputs)

  defp check(definition, outputs) do
    wire = plain!(outputs)
    names = Enum.map(definition.outputs, & &1.name)

    case {Map.keys(wire) -- ["_reasoning" | names], Validator.validate_outputs(definition, Map.take(wire, names))} do
      {[], {:ok, _valid}} -> wire
      {[], {:error, error}} -> raise wrong(definition, error.message)
      {[name | _more], _verdict} -> raise wrong(definition, "it has no output #{name}")
    end
  end

  defp plain!(outputs) do
    case Request.plain(outputs) do
      {:ok, %{} = plain} -> plain
      {:ok, _other} -> raise ArgumentError, "a stub must return a map of outputs, got: #{inspect(outputs)}"
      {:error, error} -> raise error
    end
  end

  defp wrong(definition, problem) do
    ArgumentError.exception("the stub of #{definition.name} returned what the signature does not declare: #{problem}")
  end

  defp no_stub(args) do
    what = args["program_id"] || get_in(args, ["signature", "name"]) || inspect(args["signature"])
    "no stub for #{what} in this process or its callers: see DSPexWorker.Test.stub/3 and allow/2"
  end

  defp error(%Error{} = error), do: error
  defp error(code), do: Error.new(code, "stubbed: #{inspect(code)}")

  defp own_inputs(nil, inputs), do: {:ok, inputs}
  defp own_inputs(definition, inputs), do: Validator.validate_own_inputs(definition, inputs)

  # Question and answer takes any inputs.
  defp dropped(definition, args) do
    if definition != nil and dynamic?(args) do
      for {name, _value} <- Validator.undeclared_inputs(definition, args["inputs"]),
          do: "Input #{Place.quoted(name)} is not in the signature and was dropped"
    else
      []
    end
  end

  defp key(signature) do
    if program_id?(signature),
      do: {:program, signature},
      else: signature |> definition!() |> Definition.to_wire() |> wire_key()
  end

  defp definition(signature), do: if(program_id?(signature), do: nil, else: definition!(signature))

  defp definition!(signature) do
    case Definition.of(signature) do
      {:ok, definition} -> definition
      {:error, error} -> raise error
    end
  end

  defp program_id?(text), do: is_binary(text) and not String.contains?(text, "->")

  # As it arrives: without what differs between two spellings of one definition.
  defp wire_key(wire) when is_map(wire) do
    {:ok, plain} = JSON.plain(wire)
    {:signature, Map.delete(plain, "metadata")}
  end

  defp wire_key(text) when is_binary(text) do
    case Definition.of(text) do
      {:ok, definition} -> definition |> Definition.to_wire() |> wire_key()
      {:error, _error} -> {:signature, text}
    end
  end

  defp wire_key(wire), do: {:signature, wire}

  defp dynamic?(%{"signature" => signature}), do: not Definition.legacy?(signature)
  defp dynamic?(_args), do: true

  defp hash(binary), do: :sha256 |> :crypto.hash(binary) |> Base.encode16(case: :lower)

  defp owner(options), do: if(options[:shared], do: {:shared, self()}, else: self())
  defp processes, do: [self() | Process.get(:"$callers", [])]
end
