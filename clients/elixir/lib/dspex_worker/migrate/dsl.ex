defmodule DSPexWorker.Migrate.DSL do
  @moduledoc false

  # Writes a signature in the DSL, and refuses what would not mean the same there.

  alias DSPexWorker.Signature.{Definition, Terms}

  @words %{
    "str" => :string,
    "text" => :string,
    "int" => :integer,
    "number" => :float,
    "double" => :float,
    "bool" => :boolean,
    "dict" => :map,
    "object" => :map,
    "array" => :list
  }
  @types ~w(string integer float boolean atom any map list embedding probability confidence_score reasoning_chain)a
  @signature_keys ~w(name description inputs outputs)
  @tags [:list, :array, :union, :optional, :dict, :map]
  @formats [locals_without_parens: [signature: 1, input: :*, output: :*]]

  @doc "The block `signature do … end` for `[{name, type}]` on both sides."
  @spec block(keyword, keyword) :: {:ok, String.t()} | {:error, String.t()}
  def block(inputs, outputs) do
    with {:ok, definition} <- read(%{inputs: inputs, outputs: outputs}) do
      fields = {Enum.map(inputs, &split/1), Enum.map(outputs, &split/1)}
      with :ok <- same(definition, fields), do: {:ok, fields |> write_block() |> format()}
    end
  end

  @doc "A module for a signature that was a map."
  @spec module(String.t(), map) :: {:ok, String.t()} | {:error, String.t()}
  def module(name, %{} = signature) do
    with :ok <- known_keys(signature),
         {:ok, definition} <- read(signature) do
      fields = {fields(signature, :inputs), fields(signature, :outputs)}
      with :ok <- same(definition, fields), do: {:ok, format(write_module(name, definition.description, fields))}
    end
  end

  defp known_keys(signature) do
    case Enum.reject(Map.keys(signature), &(to_string(&1) in @signature_keys)) do
      [] -> :ok
      [key | _more] -> {:error, "the key `#{key}` has no place in the DSL"}
    end
  end

  defp read(signature) do
    case Definition.of(signature) do
      {:ok, %{warnings: []} = definition} -> {:ok, definition}
      {:ok, %{warnings: [warning | _more]}} -> {:error, warning}
      {:error, error} -> {:error, error.message}
    end
  end

  # What is written must be read as what was there.
  defp same(definition, {inputs, outputs}) do
    with {:ok, written} <- read(%{inputs: inputs, outputs: outputs}) do
      if meaning(written) == meaning(definition), do: :ok, else: {:error, "the DSL would not say the same"}
    end
  end

  defp meaning(definition) do
    for field <- definition.inputs ++ definition.outputs, do: Map.delete(field, :key)
  end

  # Fields

  defp fields(signature, side) do
    for field <- get(signature, side), do: field(field)
  end

  defp field({name, type}), do: split({name, type})
  defp field({name, type, options}), do: {name, type, options}

  defp field(%{} = field) do
    field = Map.new(field, fn {key, value} -> {to_string(key), value} end)
    {known, more} = Map.split(field, ~w(name type description desc constraints))
    description = known["description"] || known["desc"]
    options = description(description) ++ pairs(known["constraints"] || []) ++ pairs(more)
    {atom(known["name"]), type(Map.get(known, "type", :string)), Enum.reject(options, &(&1 == {:required, true}))}
  end

  defp description(text) when text in [nil, ""], do: []
  defp description(text), do: [desc: text]

  defp pairs(pairs), do: for({key, value} <- pairs, do: {atom(key), value})

  # Names of fields and constraints stand in the program's own source, so they may become atoms.
  defp atom(name) when is_binary(name), do: String.to_atom(name)
  defp atom(name), do: name

  defp type(word) when is_binary(word) do
    small = word |> String.downcase() |> String.trim_leading(":")
    Map.get(@words, small) || Enum.find(@types, &(Atom.to_string(&1) == small)) || parsed(word)
  end

  defp type(type), do: type

  defp parsed(text) do
    case Definition.of("it: #{text} -> that") do
      {:ok, %{inputs: [%{type: type}]}} -> Terms.of(type)
      {:error, _error} -> text
    end
  end

  # `{type, options}` around a field are the field's own options.
  defp split({name, {type, [{_key, _value} | _] = options} = declared}) do
    if type not in @tags and Keyword.keyword?(options), do: {name, type, options}, else: {name, declared, []}
  end

  defp split({name, type}), do: {name, type, []}

  defp get(signature, key), do: Map.get(signature, key) || Map.fetch!(signature, Atom.to_string(key))

  # Text

  defp write_module(name, description, fields) do
    """
    defmodule #{name} do
      #{write_description(description)}

      #{write_block(fields)}
    end
    """
  end

  defp write_description(""), do: "@moduledoc false\nuse DSPexWorker.Signature"

  defp write_description(text) do
    if text =~ "\n",
      do: "@moduledoc false\nuse DSPexWorker.Signature, description: #{write(text)}",
      else: "@moduledoc #{write(text)}\nuse DSPexWorker.Signature"
  end

  defp write_block({inputs, outputs}) do
    lines = Enum.map(inputs, &write_field("input", &1)) ++ Enum.map(outputs, &write_field("output", &1))
    "signature do\n#{Enum.join(lines, "\n")}\nend"
  end

  defp write_field(word, {name, type, []}), do: "#{word} #{write(name)}, #{write(type)}"

  defp write_field(word, {name, type, options}) do
    written = for {key, value} <- options, do: "#{Macro.inspect_atom(:key, key)} #{write(value)}"
    "#{word} #{write(name)}, #{write(type)}, #{Enum.join(written, ", ")}"
  end

  defp write(term), do: inspect(term, limit: :infinity, printable_limit: :infinity)

  defp format(text), do: text |> Code.format_string!(@formats) |> IO.iodata_to_binary()
end
