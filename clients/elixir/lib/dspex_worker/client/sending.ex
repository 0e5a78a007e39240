defmodule DSPexWorker.Client.Sending do
  @moduledoc false

  # One call from beginning to end, with its telemetry: prepared, published, and its reply read.

  alias DSPexWorker.Client
  alias DSPexWorker.Client.{Job, Reply, Request}
  alias DSPexWorker.{Error, Telemetry}

  @doc "Sends a job and returns what its reply says."
  @spec call(Client.t(), Job.t()) :: {:ok, term} | {:error, Error.t()}
  def call(client, %Job{} = job), do: span(client, job, :reply)

  @doc "Sends a job and returns its message id, once the broker has confirmed that it has the job."
  @spec enqueue(Client.t(), Job.t()) :: {:ok, String.t()} | {:error, Error.t()}
  def enqueue(client, %Job{} = job), do: span(client, job, :confirm)

  defp span(client, job, ends) do
    config = Client.config(client)
    seen = with({:ok, config} <- config, do: config, else: (_error -> Telemetry.without_client(client)))
    id = Request.message_id(job.options[:message_id])
    trace = Telemetry.trace_headers(seen, job.options)

    Telemetry.span(seen, metadata(seen, job, id, trace), fn ->
      with {:ok, config} <- config,
           {:ok, id} <- id,
           {:ok, request, read} <- job.prepare.(config),
           {:ok, message, how} <- Request.message(config, Map.merge(request, %{id: id, trace: trace, ends: ends})) do
        exchange(client, config, {message, how}, read)
      else
        {:error, error} -> {{:error, error}, %{}}
      end
    end)
  end

  defp exchange(client, config, {message, how}, read) do
    case publish(client, config, message, how) do
      {:ok, :confirmed} -> {{:ok, message.message_id}, %{}}
      {:ok, {body, headers}} -> answer(config, body, headers, read, message.message_id)
      {:error, error} -> {{:error, %{error | message_id: message.message_id}}, %{}}
    end
  end

  defp answer(config, body, headers, read, message_id) do
    with {:ok, document} <- Reply.document(config.json, body),
         about = Reply.about(document, headers, message_id),
         {:ok, raw} <- Reply.check(document, about) do
      {outcome, more} = read.(raw, about)
      {Reply.tell(outcome, about), more}
    else
      {:error, error} -> {Reply.tell({:error, error}, %{message_id: message_id}), %{}}
    end
  end

  # Stubs run in the process that calls, so that they see whose test it is.
  defp publish(_client, %{transport: DSPexWorker.Test} = config, message, how) do
    DSPexWorker.Test.answer(config, message, how.ends)
  end

  defp publish(client, _config, message, how), do: Client.request(client, message, how)

  defp metadata(config, job, id, trace) do
    %{
      client: config.client,
      command: job.command,
      signature: job.signature,
      program_id: job.program_id,
      message_id: with({:ok, id} <- id, do: id, else: (_refused -> nil)),
      traceparent: Enum.find_value(trace, fn {name, _type, value} -> name == "traceparent" && value end),
      attempts: nil,
      usage: nil
    }
  end
end
