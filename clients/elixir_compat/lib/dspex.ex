defmodule DSPex do
  @moduledoc """
  The functions of DSPex's plan for dynamic signatures, on the workers of `DSPexWorker`.

      defmodule SentimentSignature do
        use DSPex.Signature
        @moduledoc "Analyzes sentiment of text"

        signature "text: :string -> sentiment: :string, confidence: :float"
      end

      {:ok, program_id} = DSPex.create_program(%{signature: SentimentSignature})
      {:ok, result} = DSPex.execute_program(program_id, %{text: "I absolutely love this new feature!"})
      {result.sentiment, result.confidence}

  Results have the signature's own keys, of programs that were created in this VM; of others, strings. Reasons of errors
  are those of `DSPexWorker.Adapter`. New code is better off with `DSPexWorker`.

  ## Configuration

      # The client, either one of your own supervision tree:
      config :dspex_worker, client: MyApp.LLM
      # or one that is started with this application:
      config :dspex_worker_compat, client: [url: System.fetch_env!("AMQP_URL")]

      # false: every program is question and answer; true: as declared; without it: as the workers are set
      config :dspex, :features, dynamic_signatures: true

  `dynamic_signatures:` as an option of `create_program/2` says it for one program. How many of the signatures of all
  callers are rolled out, the workers say: `dspex-worker flags set dynamic_signatures_rollout 10`.
  """

  alias DSPexWorker.{Adapter, Error, Program}
  alias DSPexWorker.Signature.Definition
  alias DSPexWorkerCompat.Programs

  require Logger

  DSPexWorkerCompat.Guard.check!(__ENV__)

  @legacy "question -> answer"
  @deprecated_text "Q&A signature format is deprecated. Please use DSPex.Signature modules."
  @program_keys [:id, :program_type, :fallback, :lm, :config, :demos, :replace]

  @type program_id :: String.t()

  @doc """
  Creates a program: `:signature` is a module, a map or a string; `:id` may be left out, then the same signature is the
  same program. The keys may be strings.

  The signature `"question -> answer"`, or none, is question and answer: a warning is logged, and the result is
  `%{answer: text}`.
  """
  @spec create_program(map, keyword) :: {:ok, program_id} | {:error, Adapter.reason()}
  def create_program(arguments, options \\ []) when is_map(arguments) do
    arguments = known(arguments)

    if Definition.legacy?(arguments[:signature]),
      do: create_legacy(arguments),
      else: create(arguments, dynamic(options))
  end

  @doc "Runs a program on inputs. Options are those of `DSPexWorker.execute/4`."
  @spec execute_program(program_id, map, keyword) :: {:ok, map} | {:error, Adapter.reason()}
  def execute_program(program_id, inputs, options \\ []) do
    case Programs.get(program_id) do
      %Program{signature: nil} = program -> execute_legacy(program, inputs, options)
      nil -> client() |> DSPexWorker.execute(program_id, inputs, options) |> plain()
      program -> client() |> DSPexWorker.execute(program, inputs, options) |> plain()
    end
  end

  @doc "Asks a question: `DSPex.execute(%{question: \"…\"})` is `{:ok, %{answer: text}}`. Deprecated, as a warning says."
  @spec execute(map) :: {:ok, map} | {:error, Adapter.reason()}
  def execute(inputs) when is_map(inputs) do
    Logger.warning(@deprecated_text)
    arguments = %{signature: @legacy, inputs: inputs}

    case DSPexWorker.call(client(), "execute_program", arguments) do
      {:ok, %{"outputs" => outputs}} -> answer({:ok, outputs})
      error -> plain(error)
    end
  end

  @doc "As `DSPexWorker.Adapter.list_programs/0`."
  @spec list_programs() :: {:ok, [program_id]} | {:error, Adapter.reason()}
  defdelegate list_programs, to: Adapter

  @doc "As `DSPexWorker.Adapter.get_program_info/1`."
  @spec get_program_info(program_id) :: {:ok, map} | {:error, Adapter.reason()}
  defdelegate get_program_info(program_id), to: Adapter

  @doc "Deletes a program."
  @spec delete_program(program_id) :: :ok | {:error, Adapter.reason()}
  def delete_program(program_id) do
    with :ok <- Adapter.delete_program(program_id), do: Programs.delete(program_id)
  end

  # DSPex takes strings as keys too. One that went unseen would make a signature question and answer.
  defp known(arguments) do
    for key <- [:signature | @program_keys],
        given = Enum.find([key, Atom.to_string(key)], &is_map_key(arguments, &1)),
        into: %{},
        do: {key, arguments[given]}
  end

  defp create(arguments, dynamic) do
    options = arguments |> Map.delete(:signature) |> Map.to_list()
    options = if dynamic == nil, do: options, else: [use_dynamic_signature: dynamic] ++ options

    with {:ok, program} <- DSPexWorker.create_program(client(), arguments[:signature], options) do
      # What runs as question and answer has none of the signature's keys.
      dynamic? = program.raw["is_dynamic"] != false and not program.fallback_used
      created(if(dynamic?, do: program, else: %{program | signature: nil}))
    else
      error -> plain(error)
    end
  end

  # As text, so that the workers count it as what it is.
  defp create_legacy(arguments) do
    Logger.warning(@deprecated_text)
    arguments = Map.put(arguments, :signature, @legacy)

    case DSPexWorker.call(client(), "create_program", arguments) do
      {:ok, %{"program_id" => id}} -> created(%Program{id: id})
      error -> plain(error)
    end
  end

  # Its outputs are no signature's.
  defp execute_legacy(program, inputs, options) do
    options = Keyword.put_new(options, :fallback, program.fallback)
    client() |> DSPexWorker.execute(program.id, inputs, options) |> answer()
  end

  defp created(program) do
    Programs.put(program)
    {:ok, program.id}
  end

  defp dynamic(options) do
    features = Application.get_env(:dspex, :features, [])
    Keyword.get(options, :dynamic_signatures, features[:dynamic_signatures])
  end

  defp answer({:ok, %{"answer" => text}}), do: {:ok, %{answer: text}}
  defp answer(other), do: plain(other)

  defp plain({:error, %Error{} = error}), do: {:error, Adapter.reason(error)}
  defp plain(success), do: success

  defp client, do: Application.get_env(:dspex_worker, :client) || started() || Adapter.client()

  defp started, do: if(Process.whereis(DSPexWorkerCompat.Client), do: DSPexWorkerCompat.Client)
end
