defmodule DSPexWorker.Signature.Type do
  @moduledoc """
  One type of a field, as a tree of nodes in canonical form.

  Every spelling ends here: a probability is a float from 0 to 1, an embedding a list of floats, `t | null` a nullable `t`.
  Two spellings that mean the same give the same tree. Build nodes through this module's functions and
  `DSPexWorker.Signature.Definition`, which keep the form canonical:

  * integer bounds are inclusive; of an inclusive and an exclusive float bound only the tighter one is kept;
  * a node with `choices` has no other constraint, since every choice satisfies them;
  * the members of a union are neither null nor nullable; a union without members is null itself.
  """

  alias DSPexWorker.Signature.Field

  defstruct kind: :any,
            items: nil,
            key: nil,
            values: nil,
            members: [],
            properties: [],
            nullable: false,
            minimum: nil,
            maximum: nil,
            exclusive_minimum: nil,
            exclusive_maximum: nil,
            multiple_of: nil,
            min_length: nil,
            max_length: nil,
            unique: false,
            pattern: nil,
            format: nil,
            choices: nil,
            choice_index: %{}

  @typedoc "What JSON value a node takes."
  @type kind :: :string | :integer | :float | :boolean | :any | :list | :dict | :object | :union

  @typedoc """
  A node. `properties` are the members of an object, as fields with names; `choices` are the only values allowed besides
  null, and `choice_index` finds them by `identity/1`.
  """
  @type t :: %__MODULE__{
          kind: kind,
          items: t | nil,
          key: t | nil,
          values: t | nil,
          members: [t],
          properties: [Field.t()],
          nullable: boolean,
          minimum: number | nil,
          maximum: number | nil,
          exclusive_minimum: number | nil,
          exclusive_maximum: number | nil,
          multiple_of: number | nil,
          min_length: non_neg_integer | nil,
          max_length: non_neg_integer | nil,
          unique: boolean,
          pattern: String.t() | nil,
          format: String.t() | nil,
          choices: [term] | nil,
          choice_index: map
        }

  @doc "A type without children or constraints."
  @spec plain(kind) :: t
  def plain(:any), do: %__MODULE__{kind: :any, nullable: true}
  def plain(kind), do: %__MODULE__{kind: kind}

  @doc "The type of null, which stands only inside unions."
  @spec null() :: t
  def null, do: %__MODULE__{kind: :union, nullable: true}

  @doc "A number from 0 to 1."
  @spec probability() :: t
  def probability, do: %__MODULE__{kind: :float, minimum: 0.0, maximum: 1.0}

  @doc "The type of a list whose items all have the given type."
  @spec list_of(t) :: t
  def list_of(items), do: %__MODULE__{kind: :list, items: items}

  @doc "The type of an object with any keys of one type and values of another."
  @spec dict_of(t, t) :: t
  def dict_of(key, values), do: %__MODULE__{kind: :dict, key: key, values: values}

  @doc "The type of an object with exactly these members."
  @spec object_of([Field.t()]) :: t
  def object_of(properties), do: %__MODULE__{kind: :object, properties: properties}

  @doc "The same type with null as one more value."
  @spec nullable_of(t) :: t
  def nullable_of(%__MODULE__{} = type), do: %{type | nullable: true}

  @doc """
  The canonical union: flat, without doubles, null as a flag, a single member standing for itself.

      iex> alias DSPexWorker.Signature.Type
      iex> Type.union_of([Type.plain(:string), Type.null()]) == Type.nullable_of(Type.plain(:string))
      true
  """
  @spec union_of([t]) :: t
  def union_of(members) do
    flat = Enum.flat_map(members, &flatten/1)
    nullable? = Enum.any?(members, & &1.nullable)

    cond do
      plain(:any) in flat -> plain(:any)
      true -> flat |> Enum.map(&%{&1 | nullable: false}) |> Enum.uniq_by(&keyless/1) |> joined(nullable?)
    end
  end

  @doc "Whether the type is null alone."
  @spec null?(t) :: boolean
  def null?(%__MODULE__{kind: :union, members: []}), do: true
  def null?(%__MODULE__{}), do: false

  @doc "The types that stand directly inside a type."
  @spec children(t) :: [t]
  def children(%__MODULE__{properties: [_ | _] = properties}), do: Enum.map(properties, & &1.type)
  def children(%__MODULE__{} = type), do: Enum.reject([type.items, type.key, type.values | type.members], &is_nil/1)

  @doc "How many lists, dicts, objects and unions stand inside each other; 0 for a scalar."
  @spec depth(t) :: non_neg_integer
  def depth(%__MODULE__{} = type) do
    case children(type) do
      [] -> 0
      children -> 1 + (children |> Enum.map(&depth/1) |> Enum.max())
    end
  end

  @doc """
  A key that is equal for two JSON values of the same JSON type and value.

  `1`, `"1"` and `true` are three values; `1` and `1.0` are one, because JSON has one type of number.

      iex> alias DSPexWorker.Signature.Type
      iex> {Type.identity(1) == Type.identity(1.0), Type.identity(1) == Type.identity(true)}
      {true, false}
  """
  @spec identity(term) :: term
  def identity(value) when is_boolean(value) or is_nil(value) or is_binary(value) or is_integer(value), do: value
  def identity(value) when is_float(value), do: if(trunc(value) == value, do: trunc(value), else: value)
  def identity(value) when is_list(value), do: Enum.map(value, &identity/1)
  def identity(value) when is_map(value), do: Map.new(value, fn {key, item} -> {key, identity(item)} end)
  def identity(value), do: {:none_of_json, value}

  defp flatten(%__MODULE__{kind: :union, choices: nil, members: members}), do: members
  defp flatten(%__MODULE__{} = type), do: [type]

  # What the members of an object are called in results makes no other type.
  defp keyless(nil), do: nil

  defp keyless(%__MODULE__{} = type) do
    properties = Enum.map(type.properties, &%{&1 | key: nil, type: keyless(&1.type)})
    members = Enum.map(type.members, &keyless/1)
    %{type | items: keyless(type.items), values: keyless(type.values), members: members, properties: properties}
  end

  defp joined([only], nullable?), do: %{only | nullable: nullable?}
  defp joined(members, nullable?), do: %__MODULE__{kind: :union, members: members, nullable: nullable?}

  @doc false
  # In a few words: what else a type says is left out.
  @spec brief(t) :: String.t()
  def brief(%__MODULE__{} = type) do
    case DSPexWorker.Signature.Spelling.base(type) do
      text when is_binary(text) -> text
      _schema -> "#{type.kind}#{if type.nullable, do: "?"}"
    end
  end
end

defimpl Inspect, for: DSPexWorker.Signature.Type do
  def inspect(type, _options), do: "#DSPexWorker.Signature.Type<#{DSPexWorker.Signature.Type.brief(type)}>"
end
