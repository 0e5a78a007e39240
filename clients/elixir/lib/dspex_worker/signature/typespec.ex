defmodule DSPexWorker.Signature.Typespec do
  @moduledoc false
  # Writes the typespecs of a signature module.

  alias DSPexWorker.Signature.{Field, Type}

  @doc "A map of fields under their own keys; outputs always have all of them."
  def of_fields(fields, complete?) do
    pairs =
      for %Field{} = field <- fields do
        required = if complete? or field.required, do: :required, else: :optional
        {{required, [], [field.key]}, of_field(field, complete?)}
      end

    {:%{}, [], pairs}
  end

  defp of_field(%Field{required: true} = field, complete?), do: of(field.type, complete?)
  defp of_field(%Field{default: {:value, _default}} = field, complete?), do: of(field.type, complete?)
  defp of_field(%Field{} = field, complete?), do: of(Type.nullable_of(field.type), complete?)

  defp of(%Type{kind: :any}, _complete?), do: quote(do: term)

  defp of(%Type{nullable: true} = type, complete?),
    do: quote(do: unquote(of(%{type | nullable: false}, complete?)) | nil)

  defp of(%Type{kind: :string}, _complete?), do: quote(do: String.t())
  defp of(%Type{kind: :integer}, _complete?), do: quote(do: integer)
  defp of(%Type{kind: :float}, _complete?), do: quote(do: float)
  defp of(%Type{kind: :boolean}, _complete?), do: quote(do: boolean)
  defp of(%Type{kind: :list, items: items}, complete?), do: [of(items, complete?)]

  defp of(%Type{kind: :dict, values: values}, complete?),
    do: quote(do: %{optional(String.t()) => unquote(of(values, complete?))})

  defp of(%Type{kind: :object, properties: members}, complete?) do
    # Typespecs know no single string as a key.
    if Enum.all?(members, &is_atom(&1.key)),
      do: of_fields(members, complete?),
      else: quote(do: %{optional(atom | String.t()) => term})
  end

  defp of(%Type{kind: :union, members: members}, complete?) do
    members
    |> Enum.map(&of(&1, complete?))
    |> Enum.reduce(fn member, specs -> quote(do: unquote(specs) | unquote(member)) end)
  end
end
