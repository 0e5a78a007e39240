defmodule DSPexWorkerCompat.ExamplesTest do
  use DSPex.TestCase, async: false

  import ExUnit.CaptureIO

  @moduletag :integration

  test "the plan's migration examples run as they stand" do
    path = Path.expand("../examples/signature_migration.exs", __DIR__)

    printed = capture_io(fn -> Code.require_file(path) end)

    assert printed =~ ~s|before: "|
    assert printed =~ ~r/after: \{".+", -?\d+\.\d+/
  end
end
