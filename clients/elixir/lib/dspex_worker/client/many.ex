defmodule DSPexWorker.Client.Many do
  @moduledoc false

  # Many calls as a lazy stream. `Task.async_stream/3` keeps an ordered stream in order by buffering without a bound
  # while one call is slow, so that side is done here: a window of tasks, of which the first is waited for.

  @spec stream(Enumerable.t(), (term -> result), keyword) :: Enumerable.t() when result: term
  def stream(inputs, run, options) do
    limit = Keyword.get(options, :max_concurrency, 100)
    if Keyword.get(options, :ordered, true), do: ordered(inputs, run, limit), else: unordered(inputs, run, limit)
  end

  defp unordered(inputs, run, limit) do
    inputs
    |> Task.async_stream(run, max_concurrency: limit, ordered: false, timeout: :infinity)
    |> Stream.map(fn {:ok, outcome} -> outcome end)
  end

  defp ordered(inputs, run, limit) when is_integer(limit) and limit > 0 do
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
