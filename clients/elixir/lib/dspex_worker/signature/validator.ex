defmodule DSPexWorker.Signature.Validator do
  @moduledoc """
  Checks all inputs or outputs of a signature at once, with the worker's own verdicts.

  Values are checked strictly: only an integer becomes a float, and a float without a fraction an integer. Before that,
  Elixir's own terms become what JSON has, as `DSPexWorker.JSON.plain/1` says.
  """

  alias DSPexWorker.{Error, JSON}
  alias DSPexWorker.Signature.{Definition, Field, Names, Place, Values}

  @max_problems 100
  # Each costs a comparison with every missing field.
  @max_hints 5

  @doc """
  The inputs of a job as they are sent: with string keys, defaults filled in, absent optional inputs left out. Inputs that
  the signature does not have are dropped.

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of("text, limit: float -> label")
      iex> DSPexWorker.Signature.Validator.validate_inputs(definition, %{text: "I love it", limit: 1})
      {:ok, %{"text" => "I love it", "limit" => 1.0}}
      iex> {:error, error} = DSPexWorker.Signature.Validator.validate_inputs(definition, limit: "1")
      iex> {error.code, error.message, length(error.problems)}
      {:invalid_inputs, "Missing required field: text; Field limit: must be a finite number", 2}
  """
  @spec validate_inputs(Definition.t(), map | keyword) :: {:ok, %{String.t() => term}} | {:error, Error.t()}
  def validate_inputs(%Definition{} = definition, inputs) do
    with {:ok, taken} <- check_inputs(definition, inputs, :wire) do
      {:ok, Map.new(taken, fn {field, value} -> {field.name, value} end)}
    end
  end

  @doc "The same as `validate_inputs/2`, under the signature's own keys."
  @spec validate_own_inputs(Definition.t(), map | keyword) :: {:ok, map} | {:error, Error.t()}
  def validate_own_inputs(%Definition{} = definition, inputs) do
    with {:ok, taken} <- check_inputs(definition, inputs, :own) do
      {:ok, Map.new(taken, fn {field, value} -> {field.key, value} end)}
    end
  end

  @doc """
  The inputs that the signature does not have, as they were named.

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of("text, language -> label")
      iex> DSPexWorker.Signature.Validator.undeclared_inputs(definition, %{"text" => "Hello", "langauge" => "en"})
      %{"langauge" => "en"}
  """
  @spec undeclared_inputs(Definition.t(), %{String.t() => term}) :: %{String.t() => term}
  def undeclared_inputs(%Definition{} = definition, inputs) do
    names = Enum.map(definition.inputs, & &1.name)
    inputs |> Map.drop(names) |> Map.reject(fn {name, _value} -> Names.normal(name) in names end)
  end

  @doc """
  The outputs of a job under the signature's own keys, all of them: an absent optional one is its default, else nil.
  Outputs that the signature does not have are dropped.

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of(%{inputs: [text: :string], outputs: [score: :probability]})
      iex> DSPexWorker.Signature.Validator.validate_outputs(definition, %{"score" => 1})
      {:ok, %{score: 1.0}}
  """
  @spec validate_outputs(Definition.t(), map | keyword) :: {:ok, %{(atom | String.t()) => term}} | {:error, Error.t()}
  def validate_outputs(%Definition{} = definition, outputs) do
    with {:ok, given} <- named(outputs, "outputs", :output_invalid),
         {:ok, taken} <- check(definition.outputs, given, "/outputs", {:output_invalid, :own}) do
      absent = Map.new(definition.outputs, &{&1.key, nil})
      {:ok, Map.merge(absent, Map.new(taken, fn {field, value} -> {field.key, value} end))}
    end
  end

  defp check_inputs(definition, inputs, keys) do
    with {:ok, given} <- named(inputs, "inputs", :invalid_inputs) do
      check(definition.inputs, given, "/inputs", {:invalid_inputs, keys})
    end
  end

  defp named(values, _side, _code) when is_map(values) and not is_struct(values), do: {:ok, by_name(values)}
  defp named(%_module{} = values, _side, _code), do: {:ok, values |> Map.from_struct() |> by_name()}

  defp named(values, side, code) do
    if is_list(values) and Keyword.keyword?(values) do
      {:ok, by_name(values)}
    else
      phrase = "#{side} must be an object"
      {:error, Error.new(code, phrase, problems: [%{path: "/#{side}", problem: phrase}])}
    end
  end

  # A name that was given in NFC wins over another spelling of it.
  defp by_name(values) do
    names = for {name, value} <- values, is_atom(name) or is_binary(name), do: {to_string(name), value}
    {normal, others} = Enum.split_with(names, fn {name, _value} -> Names.normal(name) == name end)
    others |> Map.new(fn {name, value} -> {Names.normal(name), value} end) |> Map.merge(Map.new(normal))
  end

  defp check(fields, given, root, {code, keys}) do
    results = Enum.map(fields, &{&1, take(Map.fetch(given, &1.name), &1, keys)})

    case Enum.flat_map(results, &found(&1, root)) do
      [] -> {:ok, for({field, {:ok, value}} <- results, do: {field, value})}
      found -> {:error, refusal(found, code, Map.keys(given) -- Enum.map(fields, & &1.name))}
    end
  end

  defp take({:ok, nil}, %Field{type: %{nullable: false}} = field, keys), do: take(:error, field, keys)

  defp take({:ok, value}, %Field{} = field, keys) do
    case JSON.plain(value) do
      {:ok, plain} -> Values.check(plain, field.type, keys)
      {:error, problem} -> {:error, [problem]}
    end
  end

  defp take(:error, %Field{required: true}, _keys), do: {:error, [{"", "missing"}]}
  defp take(:error, %Field{default: {:value, default}} = field, keys), do: Values.check(default, field.type, keys)
  defp take(:error, %Field{}, _keys), do: :absent

  defp found({field, {:error, faults}}, root) do
    for {at, phrase} <- faults, do: {field.name, at, %{path: root <> Place.step(field.name) <> at, problem: phrase}}
  end

  defp found(_taken, _root), do: []

  # `unknown` are the names that were given and are none of the fields: one may be the missing field, misspelt.
  defp refusal(found, code, unknown) do
    problems = for {_name, _at, problem} <- Enum.take(found, @max_problems), do: problem

    {missing, others} = Enum.split_with(found, &missing?/1)
    [{name, _at, _problem} | _more] = all = missing ++ others
    Error.new(code, all |> Enum.map(&sentence(&1, unknown)) |> Error.sentence(), field: name, problems: problems)
  end

  defp missing?({_name, at, problem}), do: at == "" and problem.problem == "missing"

  defp sentence({name, at, problem} = one, unknown) do
    if missing?(one),
      do: "Missing required field: #{name}#{meant(name, unknown)}",
      else: "Field #{name}: #{problem.problem}#{where(at)}"
  end

  defp meant(name, unknown) do
    unknown = Enum.take(unknown, @max_hints)
    near = Enum.max_by(unknown, &String.jaro_distance(name, &1), fn -> nil end)
    if near != nil and String.jaro_distance(name, near) >= 0.75, do: "; was it meant by #{Place.quoted(near)}?"
  end

  defp where(""), do: ""
  defp where("/" <> at), do: " (at /#{String.slice(at, 0, 60)})"
end
