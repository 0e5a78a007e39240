defmodule DSPexWorker.Program do
  @moduledoc """
  A program that workers keep, as `DSPexWorker.create_program/3` returns it.

  Given to `DSPexWorker.execute/4` it brings its signature along, so that inputs are checked before they are sent and
  outputs have the signature's own keys. Its `id` alone works as well, from any process or node; then give the
  signature as option, or take string keys.
  """

  @enforce_keys [:id]
  defstruct [:id, :signature, :version, :fingerprint, fallback: :never, fallback_used: false, warnings: [], raw: %{}]

  @type t :: %__MODULE__{
          id: String.t(),
          signature: DSPexWorker.Signature.Definition.t() | nil,
          version: pos_integer | nil,
          fingerprint: String.t() | nil,
          fallback: :never | :create | :execute,
          fallback_used: boolean,
          warnings: [String.t() | map],
          raw: map
        }
end

defimpl Inspect, for: DSPexWorker.Program do
  # The definition and the reply are hundreds of lines.
  def inspect(program, _options) do
    parts = [Kernel.inspect(program.id), version(program), signature(program), notes(program)]
    "#DSPexWorker.Program<#{parts |> Enum.reject(&is_nil/1) |> Enum.join(", ")}>"
  end

  defp version(%{version: nil}), do: nil
  defp version(%{version: version}), do: "version #{version}"

  defp signature(%{fallback_used: true}), do: "question and answer"
  defp signature(%{signature: nil}), do: nil
  defp signature(%{signature: definition}), do: DSPexWorker.Signature.Definition.brief(definition)

  defp notes(%{warnings: []}), do: nil
  defp notes(%{warnings: warnings}), do: "#{length(warnings)} warnings"
end
