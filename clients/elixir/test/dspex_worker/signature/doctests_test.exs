defmodule DSPexWorker.Signature.DoctestsTest do
  use ExUnit.Case, async: true

  doctest DSPexWorker.Signature.Type
  doctest DSPexWorker.Signature.Constraints
  doctest DSPexWorker.Signature.Definition
  doctest DSPexWorker.Signature.JsonSchema
  doctest DSPexWorker.Signature.Patterns
  doctest DSPexWorker.Signature.Validator
  doctest DSPexWorker.Signature.Values
  doctest DSPexWorker.Signature.Wire
end
