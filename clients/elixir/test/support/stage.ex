defmodule DSPexWorker.Stage do
  @moduledoc false

  # Real workers, an LM and a broker that a test may break. A process of the Python project does it, steered by lines of
  # JSON: tests/elixir/stage.py says what there is. It ends, with all that it started, when its stdin is closed.

  # A broker takes its time to end.
  use GenServer, shutdown: 60_000

  alias DSPexWorker.JSON

  @root Path.expand("../../../..", __DIR__)

  @doc "Options of a client for the two workers with the offline LM that run beside all tests."
  def beside(options \\ []) do
    namespace = System.get_env("DSPEX_NAMESPACE", "dspex")
    Keyword.merge([url: System.fetch_env!("AMQP_URL"), namespace: namespace, backoff: {50, 500}], options)
  end

  @doc "Starts a stage for the test, or for the module in `setup_all`; with `own_broker: true` the broker may be killed."
  def start(options \\ []), do: ExUnit.Callbacks.start_supervised!({__MODULE__, options})

  def start_link(options), do: GenServer.start_link(__MODULE__, options)

  @doc "Where its broker is, and the workers' namespace."
  def place(stage), do: GenServer.call(stage, :place, 60_000)

  @doc "Options of a client for it."
  def client(stage, options \\ []) do
    place = place(stage)
    Keyword.merge([url: place["url"], namespace: place["namespace"], backoff: {50, 500}], options)
  end

  @doc "Has something done, and returns what came of it; raises what went wrong."
  def ask(stage, what, arguments \\ %{}) do
    case GenServer.call(stage, {:ask, Map.put(arguments, :do, what)}, 120_000) do
      %{"ok" => answer} -> answer
      %{"error" => reason} -> raise "the stage could not #{what}: #{reason}"
    end
  end

  @impl GenServer
  def init(options) do
    Process.flag(:trap_exit, true)
    python = System.get_env("DSPEX_TEST_PYTHON") || raise "DSPEX_TEST_PYTHON is not set: run `make test-elixir`"
    where = if options[:own_broker], do: ["--own-broker"], else: ["--url", System.fetch_env!("AMQP_URL")]
    arguments = ["-m", "tests.elixir.stage" | where]
    port = Port.open({:spawn_executable, python}, [:binary, line: 1_000_000, args: arguments, cd: @root])
    {:ok, %{port: port, waiting: :queue.from_list([:place]), place: nil, askers: []}}
  end

  @impl GenServer
  def handle_call(:place, from, %{place: nil} = state), do: {:noreply, %{state | askers: [from | state.askers]}}
  def handle_call(:place, _from, state), do: {:reply, state.place, state}

  def handle_call({:ask, request}, from, state) do
    {:ok, plain} = JSON.plain(request)
    {:ok, line} = JSON.default().encode(plain)
    Port.command(state.port, [line, ?\n])
    {:noreply, %{state | waiting: :queue.in(from, state.waiting)}}
  end

  @impl GenServer
  def handle_info({port, {:data, {:eol, line}}}, %{port: port} = state) do
    {:ok, answer} = JSON.default().decode(line)
    {{:value, asker}, waiting} = :queue.out(state.waiting)
    {:noreply, tell(asker, answer, %{state | waiting: waiting})}
  end

  def handle_info({:EXIT, port, _reason}, %{port: port} = state), do: {:stop, :stage_ended, state}

  # Its stdin is closed first, and the test waits until all that it started is gone.
  @impl GenServer
  def terminate(_reason, state) do
    {:os_pid, pid} = Port.info(state.port, :os_pid) || {:os_pid, nil}
    if pid, do: end_process(state.port, pid)
  end

  defp tell(:place, place, state) do
    Enum.each(state.askers, &GenServer.reply(&1, place))
    %{state | place: place, askers: []}
  end

  defp tell(asker, answer, state) do
    GenServer.reply(asker, answer)
    state
  end

  defp end_process(port, pid) do
    Port.close(port)
    # A port that was closed tells nobody when its process has ended.
    System.cmd("tail", ["--pid=#{pid}", "-f", "/dev/null"])
  end
end
