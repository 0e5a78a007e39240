defmodule DSPex.Signature do
  @moduledoc """
  `DSPexWorker.Signature` under DSPex's name.

      defmodule SentimentSignature do
        use DSPex.Signature

        signature "text: :string -> sentiment: :string, confidence: :float"
      end

  The line as DSPex's documentation has it, `signature text: :string -> sentiment: :string`, is no Elixir: put it in
  quotes, write a block, or have `mix dspex_worker.migrate` write it. `@signature_ast` and `description "…"` are taken too.

  As in DSPex, `validate_inputs/1` and `validate_outputs/1` give reasons as text.
  """

  defmacro __using__(options) do
    quote do
      use DSPexWorker.Signature, unquote(options)
      @before_compile DSPex.Signature
    end
  end

  @doc false
  defmacro __before_compile__(_env) do
    quote do
      @doc "Checks inputs: `{:ok, inputs}` with defaults filled in, or what is wrong with them as text."
      @spec validate_inputs(map | keyword) :: {:ok, map} | {:error, String.t()}
      def validate_inputs(inputs), do: inputs |> super() |> DSPex.Signature.Validator.as_text()

      @doc "Checks outputs: `{:ok, outputs}` with all of them, or what is wrong with them as text."
      @spec validate_outputs(map | keyword) :: {:ok, map} | {:error, String.t()}
      def validate_outputs(outputs), do: outputs |> super() |> DSPex.Signature.Validator.as_text()
    end
  end
end
