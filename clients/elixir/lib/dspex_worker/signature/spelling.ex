defmodule DSPexWorker.Signature.Spelling do
  @moduledoc false
  # Writes a type in the one canonical spelling, which every reader of the contract reads to the same type again.

  alias DSPexWorker.Signature.Type

  @plain ~w(minimum maximum exclusive_minimum exclusive_maximum multiple_of pattern format)a

  @doc "The type with its constraints: text where it has none at any depth, else a schema object."
  def write(%Type{} = type) do
    constraints = constraints(type)

    case base(type) do
      base when constraints == %{} -> base
      base when is_binary(base) -> Map.put(constraints, "type", base)
      base -> Map.merge(base, constraints)
    end
  end

  @doc "The type without its own constraints; those of its children stay in it."
  def base(%Type{kind: :list} = type) do
    case write(type.items) do
      items when is_binary(items) -> "list<#{items}>#{mark(type)}"
      items -> %{"type" => "list#{mark(type)}", "items" => items}
    end
  end

  def base(%Type{kind: :dict} = type) do
    case {write(type.key), write(type.values)} do
      {key, values} when is_binary(key) and is_binary(values) ->
        "dict<#{key}, #{values}>#{mark(type)}"

      {key, values} when is_binary(key) ->
        %{"type" => "dict<#{key}, any>#{mark(type)}", "additionalProperties" => values}

      {key, values} when type.nullable ->
        %{"anyOf" => [%{"dict" => [key, values]}, "null"]}

      {key, values} ->
        %{"dict" => [key, values]}
    end
  end

  def base(%Type{kind: :object} = type) do
    %{
      "type" => "object#{mark(type)}",
      "properties" => Map.new(type.properties, &{&1.name, member(&1)}),
      "required" => for(member <- type.properties, member.required, do: member.name)
    }
  end

  def base(%Type{kind: :union} = type) do
    members = Enum.map(type.members, &write/1)

    cond do
      Enum.all?(members, &is_binary/1) -> "union<#{Enum.join(members, " | ")}>#{mark(type)}"
      type.nullable -> %{"anyOf" => members ++ ["null"]}
      true -> %{"anyOf" => members}
    end
  end

  def base(%Type{kind: :any}), do: "any"
  def base(%Type{} = type), do: "#{type.kind}#{mark(type)}"

  @doc "The type's own constraints, canonical name → value."
  def constraints(%Type{} = type) do
    unit = Map.get(%{list: "items", dict: "properties"}, type.kind, "length")

    [
      for(name <- @plain, do: {Atom.to_string(name), Map.fetch!(type, name)}),
      [{"min_#{unit}", type.min_length}, {"max_#{unit}", type.max_length}],
      [{"unique_items", if(type.unique, do: true)}, {"enum", choices(type)}]
    ]
    |> Enum.concat()
    |> Enum.reject(fn {_name, value} -> value == nil end)
    |> Map.new()
  end

  defp choices(%Type{choices: nil}), do: nil
  defp choices(%Type{kind: :any, nullable: true, choices: choices}), do: choices ++ [nil]
  defp choices(%Type{choices: choices}), do: choices

  defp member(member) do
    more =
      Map.new(
        if(member.description == "", do: [], else: [{"description", member.description}]) ++
          case member.default do
            {:value, default} -> [{"default", default}]
            :none -> []
          end
      )

    case write(member.type) do
      written when more == %{} -> written
      written when is_binary(written) -> Map.put(more, "type", written)
      written -> Map.merge(written, more)
    end
  end

  defp mark(%Type{nullable: true}), do: "?"
  defp mark(%Type{}), do: ""
end
