defmodule DSPexWorker.Client.Kept do
  @moduledoc false

  # Results that workers keep: what they say of a job, once, or until it has ended.

  alias DSPexWorker.{Client, Error}
  alias DSPexWorker.Client.{Job, Reply, Request, Sending}

  @first_pause 100
  @last_pause 2_000
  # One look that is lost with its worker must not use up the whole time.
  @look 10_000
  # Of a look, not of the job: nobody has answered yet.
  @later [:no_worker, :timeout, :connection, :expired]

  @type pending :: {:pending, :running | :waiting | :unknown}

  @doc "Asks once. `own` are the options that say how to read the result, `options` those of the call."
  @spec fetch(Client.t(), String.t(), keyword, keyword) :: {:ok, term} | {:error, Error.t()} | pending
  def fetch(client, message_id, own, options) do
    with {:ok, run} <- run(client, message_id, own),
         {:ok, kept} <- look(client, message_id, options),
         do: read(kept, run)
  end

  @doc "Asks until the job has ended, or `timeout` milliseconds are over."
  @spec await(Client.t(), String.t(), keyword, keyword) :: {:ok, term} | {:error, Error.t()}
  def await(client, message_id, own, options) do
    with {:ok, config} <- Client.config(client),
         {:ok, run} <- run(client, message_id, own) do
      timeout = Request.timeout!(options[:timeout] || config.timeout)
      await(%{client: client, run: run, options: options, timeout: timeout, ends: ends(timeout)}, @first_pause)
    end
  end

  @doc "Reads a reply that came by another way than this client."
  @spec read_reply(Client.t(), binary, keyword) :: {:ok, term} | {:error, Error.t()}
  def read_reply(client, body, own) do
    with {:ok, config} <- Client.config(client),
         {:ok, run} <- run(client, own[:message_id], own),
         {:ok, document} <- Reply.document(config.json, body) do
      ended(document, Map.merge(run, Reply.about(document, Map.new(own[:headers] || %{}), own[:message_id])))
    end
  end

  defp await(waiting, pause) do
    %{client: client, run: run} = waiting
    # It is waited for workers here, also where other calls of the client do it themselves.
    options = Keyword.merge(waiting.options, timeout: min(left(waiting.ends), @look), no_worker: :fail)

    case look(client, run.message_id, options) do
      {:ok, kept} -> kept |> read(run) |> again(waiting, pause)
      {:error, %Error{code: code} = error} when code in @later -> again({:pending, error}, waiting, pause)
      {:error, error} -> {:error, error}
    end
  end

  # Full jitter above the half, so that many who wait do not ask all at once.
  defp again({:pending, status}, waiting, pause) do
    wait = div(pause, 2) + :rand.uniform(div(pause, 2))

    if left(waiting.ends) > wait do
      Process.sleep(wait)
      await(waiting, min(pause * 2, @last_pause))
    else
      {:error, not_in_time(status, waiting)}
    end
  end

  defp again(outcome, _waiting, _pause), do: outcome

  defp not_in_time(status, %{run: %{message_id: id}, timeout: timeout}) do
    {told, status} = if is_atom(status), do: {"its status is #{status}", status}, else: {Exception.message(status), nil}

    Error.new(:timeout, "The job #{id} has not ended within #{timeout} ms: #{told}",
      recoverable: true,
      message_id: id,
      details: %{message_id: id, status: status}
    )
  end

  defp ends(:infinity), do: :infinity
  defp ends(timeout), do: now() + timeout

  # Atoms are greater than numbers.
  defp left(:infinity), do: :infinity
  defp left(ends), do: max(ends - now(), 1)

  defp now, do: System.monotonic_time(:millisecond)

  defp look(client, message_id, options) do
    Sending.call(client, Job.command("get_result", %{message_id: message_id}, options))
  end

  defp run(client, message_id, own) do
    with {:ok, config} <- Client.config(client),
         {:ok, definition} <- Job.signature_of(own[:signature], own[:signature]) do
      {:ok,
       %{
         definition: definition,
         asked: Job.policy(own[:signature], own, config) != :never,
         full: own[:full] == true,
         message_id: message_id,
         generation: nil,
         stored_ms: nil
       }}
    end
  end

  defp read(%{"status" => "done", "reply" => %{} = document} = kept, run) do
    headers = %{"x-dspex-generation" => kept["generation"], "x-dspex-stored" => kept["stored_ms"]}
    ended(document, Map.merge(run, Reply.about(document, headers, run.message_id)))
  end

  defp read(%{"status" => "running"}, _run), do: {:pending, :running}
  defp read(%{"status" => "waiting"}, _run), do: {:pending, :waiting}
  defp read(%{"status" => "unknown"}, _run), do: {:pending, :unknown}

  defp read(%{"status" => "cancelled"}, %{message_id: id}) do
    details = %{message_id: id}
    {:error, Error.new(:cancelled, "The job was cancelled before it ended", message_id: id, details: details)}
  end

  # Never pending: whoever waits for it would wait for ever.
  defp read(kept, run) do
    sentence = "The job has a status that this client does not know: #{inspect(kept["status"], limit: 5)}"
    {:error, Error.new(:invalid_reply, sentence, message_id: run.message_id, details: %{reply: kept})}
  end

  defp ended(document, run) do
    about = Map.take(run, [:message_id, :generation, :stored_ms])

    with {:ok, raw} <- Reply.check(document, about) do
      outcome = if is_map_key(raw, "outputs"), do: Reply.outputs(raw, run), else: {:ok, raw}
      Reply.tell(outcome, about)
    end
  end
end
