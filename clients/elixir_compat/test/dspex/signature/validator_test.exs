defmodule DSPex.Signature.ValidatorTest do
  use ExUnit.Case, async: true

  alias DSPex.Signature.Validator

  defmodule TestSignature do
    use DSPex.Signature
    signature "text: :string -> sentiment: :string"
  end

  test "validates required fields" do
    assert {:error, _} = Validator.validate_inputs(%{}, TestSignature)
    assert {:ok, _} = Validator.validate_inputs(%{text: "hello"}, TestSignature)
  end

  test "validates outputs, and refuses what is no signature" do
    assert Validator.validate_outputs(%{"sentiment" => "good"}, TestSignature) == {:ok, %{sentiment: "good"}}
    assert {:error, "Missing required field: sentiment"} = Validator.validate_outputs(%{}, TestSignature)
    assert {:error, reason} = Validator.validate_inputs(%{}, Enum)
    assert reason =~ "does not export __signature__/0"
  end
end
