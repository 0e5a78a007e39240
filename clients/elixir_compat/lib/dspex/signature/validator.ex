defmodule DSPex.Signature.Validator do
  @moduledoc "Checks inputs and outputs against a signature."

  alias DSPexWorker.Error
  alias DSPexWorker.Signature.{Definition, Validator}

  @doc "Checks inputs against a signature: a module, a map or a string."
  @spec validate_inputs(map, DSPexWorker.signature()) :: {:ok, map} | {:error, String.t()}
  def validate_inputs(inputs, signature) do
    with {:ok, definition} <- Definition.of(signature) do
      Validator.validate_own_inputs(definition, inputs)
    end
    |> as_text()
  end

  @doc "Checks outputs against a signature: a module, a map or a string."
  @spec validate_outputs(map, DSPexWorker.signature()) :: {:ok, map} | {:error, String.t()}
  def validate_outputs(outputs, signature) do
    with {:ok, definition} <- Definition.of(signature) do
      Validator.validate_outputs(definition, outputs)
    end
    |> as_text()
  end

  @doc false
  @spec as_text({:ok, map} | {:error, Error.t()}) :: {:ok, map} | {:error, String.t()}
  def as_text({:error, %Error{message: message}}), do: {:error, message}
  def as_text(valid), do: valid
end
