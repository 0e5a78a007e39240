defmodule DSPexWorker.Client.Many do
  @moduledoc false

  # Many calls as a lazy stream. `Task.async_stream/3` keeps an ordered stream in order by buffering without a bound
  # while one call is slow, so that side is done here: a window of tasks, of which the first is waited for.
  #
  # What a call raises is raised where the stream is consumed: the tasks are linked, and it could not be rescued there.

  @spec stream(Enumerable.t(), (term -> result), keyword) :: Enumerable.t() when result: term
  def stream(inputs, run, options) do
    {limit, ordered?} = parse(options)
    run = fn input -> try_run(run, input) end
    outcomes = if ordered?, do: ordered(inputs, run, limit), else: unordered(inputs, run, limit)
    Stream.map(outcomes, &outcome/1)
  end

  defp parse(options) do
    limit = Keyword.get(options, :max_concurrency, 100)
    ordered? = Keyword.get(options, :ordered, true)

    unless is_integer(limit) and limit > 0,
      do: raise(ArgumentError, ":max_concurrency must be a positive integer, got: #{inspect(limit)}")

    unless is_boolean(ordered?), do: raise(ArgumentError, ":ordered must be a boolean, got: #{inspect(ordered?)}")
    {limit, ordered?}
  end

  defp try_run(run, input) do
    {:ran, run.(input)}
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end

  defp outcome({:ran, outcome}), do: outcome
  defp outcome({:raised, kind, reason, stacktrace}), do: :erlang.raise(kind, reason, stacktrace)

  defp unordered(inputs, run, limit) do
    inputs
    |> Task.async_stream(run, max_concurrency: limit, ordered: false, timeout: :infinity)
    |> Stream.map(fn {:ok, outcome} -> outcome end)
  end

  defp ordered(inputs, run, limit) do
    end_of_inputs = make_ref()

    inputs
    |> Stream.concat(List.duplicate(end_of_inputs, limit))
    |> Stream.transform(
      fn -> {:queue.new(), 0} end,
      fn
        ^end_of_inputs, window ->
          first(window)

        input, {_tasks, ^limit} = window ->
          window |> first() |> then(fn {outcome, rest} -> {outcome, add(rest, run, input)} end)

        input, window ->
          {[], add(window, run, input)}
      end,
      fn {tasks, _size} -> tasks |> :queue.to_list() |> Enum.each(&Task.shutdown(&1, :brutal_kill)) end
    )
  end

  defp add({tasks, size}, run, input), do: {:queue.in(Task.async(fn -> run.(input) end), tasks), size + 1}

  defp first({tasks, size}) do
    case :queue.out(tasks) do
      {{:value, task}, rest} -> {[Task.await(task, :infinity)], {rest, size - 1}}
      {:empty, tasks} -> {[], {tasks, 0}}
    end
  end
end
