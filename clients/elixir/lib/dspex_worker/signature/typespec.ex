defmodule DSPexWorker.Signature.Typespec do
  @moduledoc false
  # Writes the typespecs of a signature module.

  alias DSPexWorker.Signature.{Field, Type}

  @doc "A map of fields under their own keys; outputs always have all of them."
  def of_fields(fields, complete?) do
    pairs =
      for %Field{} = field <- fields do
        required = if complete? or field.required, do: :required, else: :optional
        {{required, [], [field.key]}, of_field(field)}
      end

    {:%{}, [], pairs}
  end

  defp of_field(%Field{required: true} = field), do: of(field.type)
  defp of_field(%Field{default: {:value, _default}} = field), do: of(field.type)
  defp of_field(%Field{} = field), do: of(Type.nullable_of(field.type))

  defp of(%Type{kind: :any}), do: quote(do: term)
  defp of(%Type{nullable: true} = type), do: quote(do: unquote(of(%{type | nullable: false})) | nil)
  defp of(%Type{kind: :string}), do: quote(do: String.t())
  defp of(%Type{kind: :integer}), do: quote(do: integer)
  defp of(%Type{kind: :float}), do: quote(do: float)
  defp of(%Type{kind: :boolean}), do: quote(do: boolean)
  defp of(%Type{kind: :list, items: items}), do: [of(items)]
  defp of(%Type{kind: :dict, values: values}), do: quote(do: %{optional(String.t()) => unquote(of(values))})
  defp of(%Type{kind: :object}), do: quote(do: %{optional(String.t()) => term})

  defp of(%Type{kind: :union, members: members}) do
    members |> Enum.map(&of/1) |> Enum.reduce(fn member, specs -> quote(do: unquote(specs) | unquote(member)) end)
  end
end
