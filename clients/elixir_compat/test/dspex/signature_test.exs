defmodule DSPex.SignatureTest do
  use ExUnit.Case, async: true

  defmodule Quoted do
    use DSPex.Signature
    signature "question: :string -> answer: :string"
  end

  defmodule Block do
    use DSPex.Signature

    signature do
      input :question, :string
      output :answer, :string
    end
  end

  defmodule Arrow do
    use DSPex.Signature
    signature (question: :string -> [answer: :string])
  end

  defmodule Ast do
    use DSPex.Signature

    description "Answers"
    @signature_ast {:->, [], [[{:question, :string}], [{:answer, :string}]]}
  end

  for module <- [Quoted, Block, Arrow, Ast] do
    test "#{inspect(module)} is what DSPex makes of it" do
      signature = unquote(module).__signature__()

      assert signature.inputs == [{:question, :string, []}]
      assert signature.outputs == [{:answer, :string, []}]
      assert signature.module == unquote(module)
      assert unquote(module).describe() == "question: string -> answer: string"
    end
  end

  test "reasons are text, as in DSPex" do
    assert {:ok, %{question: "What is 2+2?"}} = Quoted.validate_inputs(%{question: "What is 2+2?"})
    assert {:error, "Missing required field: question"} = Quoted.validate_inputs(%{})
    assert {:error, "Missing required field: answer"} = Quoted.validate_outputs(%{})
  end

  test "a signature of this name is one of DSPexWorker" do
    assert {:ok, %{description: "Answers", module: Ast}} = DSPexWorker.Signature.Definition.of(Ast)
  end
end
