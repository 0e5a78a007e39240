defmodule DSPexWorker.Signature.Field do
  @moduledoc """
  One input or output of a signature, or one member of a nested object.

  | key | meaning |
  |---|---|
  | `name` | the name on the wire, in NFC |
  | `key` | the name in results: an atom where the signature was declared with one, else the same as `name` |
  | `type` | a `DSPexWorker.Signature.Type`, with the constraints on it |
  | `constraints` | the type's own constraints by canonical name, and unknown ones as they were given |
  | `description` | what it means, for the prompt |
  | `required` | false if it may be absent; always false where there is a default |
  | `default` | `{:value, value}`, or `:none` |
  """

  alias DSPexWorker.Signature.Type

  @enforce_keys [:name, :key, :type]
  defstruct name: nil, key: nil, type: nil, constraints: %{}, description: "", required: true, default: :none

  @type t :: %__MODULE__{
          name: String.t(),
          key: atom | String.t(),
          type: Type.t(),
          constraints: %{String.t() => term},
          description: String.t(),
          required: boolean,
          default: :none | {:value, term}
        }

  @doc false
  @spec brief(t) :: String.t()
  def brief(%__MODULE__{} = field), do: "#{field.name}: #{Type.brief(field.type)}"
end

defimpl Inspect, for: DSPexWorker.Signature.Field do
  def inspect(field, _options), do: "#DSPexWorker.Signature.Field<#{DSPexWorker.Signature.Field.brief(field)}>"
end
