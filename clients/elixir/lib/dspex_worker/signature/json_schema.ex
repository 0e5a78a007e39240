defmodule DSPexWorker.Signature.JsonSchema do
  @moduledoc """
  Writes JSON Schemas of one side of a signature, in the shapes that providers take.

  | provider | shape | side, unless told |
  |---|---|---|
  | `:openai` | a closed object | `:outputs`: what a model must produce |
  | `:anthropic` | a closed object as `input_schema`, with which a tool is declared | `:inputs`: what a tool that runs the signature takes |
  | `:generic` | the same as `:openai`, with `$schema` and a title | `:outputs` |

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
      %{score: %{type: "number", minimum: 0.0, maximum: 1.0}}
      iex> DSPexWorker.Signature.JsonSchema.generate(definition, :openai, :inputs).properties
      %{text: %{type: "string"}}

  Raises `ArgumentError` for an unknown provider or side.
  """
  @spec generate(Definition.t(), :openai | :anthropic | :generic, :inputs | :outputs | nil) :: map
  def generate(definition, provider \\ :openai, side \\ nil)

  def generate(%Definition{}, provider, _side) when provider not in @providers do
    raise ArgumentError, "unknown provider #{inspect(provider)}; known are #{inspect(@providers)}"
  end

  def generate(%Definition{} = definition, provider, nil) do
    generate(definition, provider, if(provider == :anthropic, do: :inputs, else: :outputs))
  end

  def generate(%Definition{} = definition, provider, side) when side in [:inputs, :outputs] do
    schema = definition |> Map.fetch!(side) |> closed()
    provider |> shape(schema, definition) |> described(definition)
  end

  def generate(%Definition{}, _provider, side) do
    raise ArgumentError, "a schema is of the :inputs or the :outputs, not of #{inspect(side)}"
  end

  defp shape(:openai, schema, _definition), do: schema
  defp shape(:anthropic, schema, _definition), do: %{input_schema: schema}

  defp shape(:generic, schema, definition) do
    Map.merge(schema, %{"$schema": "https://json-schema.org/draft/2020-12/schema", title: title(definition)})
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
