defmodule DSPexWorker.Signature.Terms do
  @moduledoc false
  # Types as terms of the DSL: what was declared without its options, what a type is called, and the way back from a type.

  alias DSPexWorker.Signature.{Field, Spelling, Type}

  @tags [:list, :array, :union, :optional]
  @dicts [:dict, :map]

  @doc "A declared type without the options around it."
  def bare({tag, inner, [{_, _} | _]}) when tag in @tags, do: {tag, inner}
  def bare({tag, key, values, [{_, _} | _]}) when tag in @dicts, do: {tag, key, values}

  def bare({type, [{_, _} | _] = options} = declared) do
    structure = Keyword.take(options, [:properties, :items, :any_of, :additional_properties, :required])

    cond do
      not Keyword.keyword?(options) -> declared
      Keyword.take(structure, [:properties, :items, :any_of, :additional_properties]) == [] -> bare(type)
      true -> {type, structure}
    end
  end

  def bare(type) when is_atom(type), do: type
  def bare({_tag, _inner} = type), do: type
  def bare({_tag, _key, _values} = type), do: type
  # Texts and maps may hold anything; what they mean is taken from the type that was read.
  def bare(_other), do: nil

  @doc "The term of a quoted term, as it stands in `@signature_ast`."
  def unquoted({:{}, _meta, items}), do: items |> Enum.map(&unquoted/1) |> List.to_tuple()
  def unquoted({:%{}, _meta, pairs}), do: Map.new(pairs, &unquoted/1)
  def unquoted({one, other}), do: {unquoted(one), unquoted(other)}
  def unquoted(items) when is_list(items), do: Enum.map(items, &unquoted/1)
  def unquoted(other), do: other

  @doc "The term of a type, without its outermost constraints."
  def of(%Type{nullable: true, kind: kind} = type) when kind != :any, do: {:optional, of(%{type | nullable: false})}
  def of(%Type{kind: :list, items: items}), do: if(items == Type.plain(:any), do: :list, else: {:list, whole(items)})
  def of(%Type{kind: :dict} = type), do: dict(type)
  def of(%Type{kind: :union, members: members}), do: {:union, Enum.map(members, &whole/1)}
  def of(%Type{kind: :object, properties: members}), do: {:object, properties: Enum.map(members, &member/1)}
  def of(%Type{} = type), do: if(%{type | choices: nil} == Type.probability(), do: :probability, else: type.kind)

  @doc "A type in a few words, as DSPex says it."
  def describe({:list, type}), do: "list of #{describe(type)}"
  def describe({:array, type}), do: describe({:list, type})

  def describe({tag, key, values}) when tag in @dicts,
    do: "dict with #{describe(key)} keys and #{describe(values)} values"

  def describe({:union, types}) when is_list(types), do: "union of #{Enum.map_join(types, " | ", &describe/1)}"
  def describe({:optional, type}), do: "optional #{describe(type)}"

  def describe({:object, options}) when is_list(options) do
    "object with #{Enum.map_join(options[:properties] || [], ", ", fn {name, _type} -> to_string(name) end)}"
  end

  def describe({type, _options}), do: describe(type)
  def describe(type) when is_atom(type), do: Atom.to_string(type)
  def describe(type) when is_binary(type), do: type
  def describe(type), do: inspect(type)

  defp dict(%Type{key: key, values: values}) do
    if {key, values} == {Type.plain(:string), Type.plain(:any)}, do: :map, else: {:dict, whole(key), whole(values)}
  end

  defp whole(type) do
    term = of(type)

    case Spelling.constraints(type) do
      none when none == %{} or term == :probability -> term
      constraints -> {term, Enum.map(constraints, fn {name, value} -> {String.to_atom(name), value} end)}
    end
  end

  defp member(%Field{} = member) do
    options =
      List.flatten([
        if(member.description == "", do: [], else: [description: member.description]),
        case member.default do
          {:value, default} -> [default: default]
          :none -> if member.required, do: [], else: [optional: true]
        end
      ])

    {member.key, if(options == [], do: whole(member.type), else: {whole(member.type), options})}
  end
end
