defmodule DSPexWorker.Signature.JsonSchema do
  @moduledoc """
  Writes JSON Schemas of signatures, in the shapes that DSPex gives to providers.

  | provider | shape |
  |---|---|
  | `:openai` | one closed object of all inputs and outputs |
  | `:anthropic` | `input_schema`, a closed object of the inputs |
  | `:generic` | the same as `:openai`, with `$schema` and a title |

  The keys are atoms, those of the properties the signature's own.
  """

  alias DSPexWorker.Signature.{Definition, Field, Type}

  @providers [:openai, :anthropic, :generic]
  @names %{string: "string", integer: "integer", float: "number", boolean: "boolean"}
  @range [
    minimum: :minimum,
    maximum: :maximum,
    exclusive_minimum: :exclusiveMinimum,
    exclusive_maximum: :exclusiveMaximum,
    multiple_of: :multipleOf
  ]
  @lengths %{
    string: [min_length: :minLength, max_length: :maxLength],
    list: [min_length: :minItems, max_length: :maxItems],
    dict: [min_length: :minProperties, max_length: :maxProperties]
  }
  @decimal "^-?(0|[1-9][0-9]*)$"

  @doc """
  The schema of a signature for a provider.

      iex> {:ok, definition} = DSPexWorker.Signature.Definition.of(%{inputs: [text: :string], outputs: [score: :probability]})
      iex> DSPexWorker.Signature.JsonSchema.generate(definition, :openai).properties
      %{text: %{type: "string"}, score: %{type: "number", minimum: 0.0, maximum: 1.0}}

  Raises `ArgumentError` for an unknown provider.
  """
  @spec generate(Definition.t(), :openai | :anthropic | :generic) :: map
  def generate(definition, provider \\ :openai)

  def generate(%Definition{} = definition, :openai) do
    closed(definition.inputs ++ definition.outputs) |> described(definition)
  end

  def generate(%Definition{} = definition, :anthropic) do
    described(%{input_schema: closed(definition.inputs)}, definition)
  end

  def generate(%Definition{} = definition, :generic) do
    definition
    |> generate(:openai)
    |> Map.merge(%{"$schema": "https://json-schema.org/draft/2020-12/schema", title: title(definition)})
  end

  def generate(%Definition{}, provider) do
    raise ArgumentError, "unknown provider #{inspect(provider)}; known are #{inspect(@providers)}"
  end

  defp described(schema, %Definition{description: ""}), do: schema
  defp described(schema, %Definition{description: text}), do: Map.put(schema, :description, text)

  defp title(%Definition{name: name}), do: name |> String.replace_prefix("Elixir.", "") |> String.replace(".", "_")

  defp closed(fields) do
    %{
      type: "object",
      properties: Map.new(fields, &{&1.key, field(&1)}),
      required: for(field <- fields, field.required, do: field.name),
      additionalProperties: false
    }
  end

  defp field(%Field{} = field) do
    schema = write(if(field.required, do: field.type, else: Type.nullable_of(field.type)))
    schema = if field.description == "", do: schema, else: Map.put(schema, :description, field.description)

    case field.default do
      {:value, default} -> Map.put(schema, :default, default)
      :none -> schema
    end
  end

  defp write(%Type{kind: :any, choices: nil}), do: %{}
  defp write(%Type{nullable: true} = type), do: or_null(write(%{type | nullable: false}))
  defp write(%Type{choices: [_ | _] = choices, kind: kind}), do: Map.merge(named(kind), %{enum: choices})
  defp write(%Type{kind: :union, members: members}), do: %{anyOf: Enum.map(members, &write/1)}
  defp write(%Type{kind: :object, properties: members}), do: closed(members)

  defp write(%Type{kind: :string} = type) do
    Map.merge(bounded(type), given(pattern: type.pattern, format: type.format))
  end

  defp write(%Type{kind: :list} = type) do
    %{type: "array", items: write(type.items)}
    |> Map.merge(bounds(type))
    |> Map.merge(given(uniqueItems: if(type.unique, do: true)))
  end

  defp write(%Type{kind: :dict} = type) do
    values = write(type.values)

    %{type: "object", additionalProperties: if(values == %{}, do: true, else: values)}
    |> Map.merge(bounds(type))
    |> Map.merge(property_names(type.key))
  end

  defp write(%Type{} = type),
    do: Map.merge(bounded(type), given(for {from, to} <- @range, do: {to, Map.fetch!(type, from)}))

  defp bounded(type), do: Map.merge(named(type.kind), bounds(type))
  defp bounds(type), do: given(for {from, to} <- Map.get(@lengths, type.kind, []), do: {to, Map.fetch!(type, from)})
  defp given(pairs), do: for({name, value} <- pairs, value != nil, into: %{}, do: {name, value})
  defp named(kind), do: if(name = @names[kind], do: %{type: name}, else: %{})

  defp property_names(%Type{kind: :integer, choices: [_ | _] = choices}) do
    %{propertyNames: %{enum: Enum.map(choices, &to_string/1)}}
  end

  defp property_names(%Type{kind: :integer}), do: %{propertyNames: %{pattern: @decimal}}
  defp property_names(key), do: if(key == Type.plain(:string), do: %{}, else: %{propertyNames: write(key)})

  defp or_null(%{anyOf: options} = schema), do: %{schema | anyOf: options ++ [%{type: "null"}]}
  defp or_null(%{enum: choices, type: type} = schema), do: %{schema | enum: choices ++ [nil], type: [type, "null"]}
  defp or_null(%{enum: choices} = schema), do: %{schema | enum: choices ++ [nil]}
  defp or_null(%{type: type} = schema) when type in ["object", "array"], do: %{anyOf: [schema, %{type: "null"}]}
  defp or_null(%{type: type} = schema), do: %{schema | type: [type, "null"]}
end
