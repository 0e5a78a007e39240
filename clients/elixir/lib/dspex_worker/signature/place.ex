defmodule DSPexWorker.Signature.Place do
  @moduledoc false
  # Where in a definition the parser is, so that every refusal and warning can name it.

  alias DSPexWorker.Error

  defstruct pointer: "/signature", field: nil, steps: 0

  @max_steps 40
  @max_depth 8
  @max_types 2_000
  @max_choices 10_000
  @max_constraints 100
  @max_pattern_cost 30_000
  @max_quoted 64
  @budget %{types: @max_types, choices: @max_choices, pattern_cost: @max_pattern_cost, patterns: MapSet.new()}

  @doc false
  # Warnings and budgets belong to one definition, which is read by one process in one go: the process dictionary holds
  # them, because passing them through each function of the parser would hide what it does.
  def read(fun) do
    before = Process.put(__MODULE__, Map.put(@budget, :warnings, []))

    try do
      result = fun.()
      {:ok, result, Enum.reverse(Process.get(__MODULE__).warnings)}
    catch
      {__MODULE__, fault} -> {:error, error([fault])}
      {__MODULE__, :many, faults} -> {:error, error(faults)}
    after
      restore(before)
    end
  end

  @doc false
  # Reads all and raises afterwards, so that the problems name every field at fault.
  def read_all(readings) do
    results = for reading <- readings, do: attempt(reading)

    case for({:fault, fault} <- results, do: fault) do
      [] -> for {:ok, value} <- results, do: value
      faults -> throw({__MODULE__, :many, faults})
    end
  end

  @doc false
  # The fault of one reading, so that the next one may be tried.
  def attempt(reading) do
    {:ok, reading.()}
  catch
    {__MODULE__, fault} -> {:fault, fault}
  end

  @doc false
  # What the first one breaks is what the definition is refused for.
  def refuse([]), do: :ok

  def refuse([first | more]) do
    throw({__MODULE__, :many, [first | Enum.map(more, &%{&1 | breaks_limit: false})]})
  end

  @spec fault(map, atom, String.t(), keyword) :: no_return
  def fault(place, code, reason, options \\ []) do
    limit? = Keyword.get(options, :breaks_limit, false)
    throw({__MODULE__, %{code: code, reason: reason, field: place.field, pointer: place.pointer, breaks_limit: limit?}})
  end

  def at(place, steps), do: %{place | pointer: place.pointer <> Enum.map_join(List.wrap(steps), &step/1)}
  def of_field(place, name), do: %{place | field: name}

  def inside(place, steps \\ [])

  def inside(%{steps: steps} = place, _at) when steps >= @max_steps do
    fault(place, :invalid_signature, "type is nested deeper than #{@max_depth}", breaks_limit: true)
  end

  def inside(place, []), do: %{place | steps: place.steps + 1}

  def inside(place, at) do
    pay(place, :types, 1, :invalid_signature, "more than #{@max_types} nested types")
    %{at(place, at) | steps: place.steps + 1}
  end

  def require_depth(place, levels) when levels > @max_depth do
    fault(place, :invalid_signature, "type is nested deeper than #{@max_depth}", breaks_limit: true)
  end

  def require_depth(_place, _levels), do: :ok

  def require_constraints(place, count) when count > @max_constraints do
    fault(place, :invalid_signature, "more than #{@max_constraints} constraints", breaks_limit: true)
  end

  def require_constraints(_place, _count), do: :ok

  def pay_for_choices(place, key, count) do
    reason = "#{quoted(key)} makes more than #{@max_choices} choices in the definition"
    pay(place, :choices, count, :invalid_constraint, reason)
  end

  def pay_for_pattern(place, key, pattern, cost) do
    state = Process.get(__MODULE__)

    unless MapSet.member?(state.patterns, pattern) do
      Process.put(__MODULE__, %{state | patterns: MapSet.put(state.patterns, pattern)})
      reason = "#{quoted(key)} is too large: use fewer repetitions, or smaller classes such as [a-z]"
      pay(place, :pattern_cost, cost, :invalid_constraint, reason)
    end

    :ok
  end

  def warn(place, text) do
    warning = if place.field, do: "Field #{place.field}: #{text}", else: text
    Process.put(__MODULE__, Map.update!(Process.get(__MODULE__), :warnings, &[warning | &1]))
    :ok
  end

  @doc false
  def quoted(text) when is_binary(text) do
    shown = text |> String.slice(0, @max_quoted) |> String.replace(~r/\p{C}/u, "\uFFFD")
    if String.length(text) > @max_quoted, do: "`#{shown}…`", else: "`#{shown}`"
  end

  def quoted(other), do: "`#{inspect(other, limit: 5, printable_limit: @max_quoted)}`"

  @doc false
  def step(name) do
    whole = to_string(name)
    cut = if String.length(whole) > 100, do: String.slice(whole, 0, 100) <> "…", else: whole
    "/" <> (cut |> String.replace("~", "~0") |> String.replace("/", "~1"))
  end

  defp pay(place, what, count, code, reason) do
    state = Process.get(__MODULE__)
    left = Map.fetch!(state, what) - count
    Process.put(__MODULE__, Map.put(state, what, left))
    if left < 0, do: fault(place, code, reason, breaks_limit: true), else: :ok
  end

  defp error(faults) do
    worst = Enum.find(faults, hd(faults), & &1.breaks_limit)
    problems = for fault <- Enum.take(faults, 100), do: %{path: fault.pointer, problem: fault.reason}
    sentence = Error.sentence(Enum.map([worst | List.delete(faults, worst)], &sentence/1))
    Error.new(worst.code, sentence, field: worst.field, problems: problems)
  end

  defp sentence(%{field: nil, reason: reason}), do: reason
  defp sentence(%{field: field, reason: reason}), do: "Field #{field}: #{reason}"

  defp restore(nil), do: Process.delete(__MODULE__)
  defp restore(before), do: Process.put(__MODULE__, before)
end
