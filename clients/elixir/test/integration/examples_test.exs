defmodule DSPexWorker.Integration.ExamplesTest do
  @moduledoc "Each example runs against real workers, as a reader would run it."

  # Modules of the examples have the names that a reader would take.
  use ExUnit.Case, async: false

  import ExUnit.CaptureIO

  @moduletag :integration

  @shown %{
    "quick_start" => ["greeting|question|complaint", "Field input_text", "sig-[0-9a-f]{32}: %{"],
    "signature_migration" => ["before: \"", "after: {\"(positive|negative|neutral)\", ", "translated: \""]
  }

  for {name, patterns} <- @shown do
    @name name
    @path Path.expand("../../examples/#{name}.exs", __DIR__)
    @patterns patterns

    test "#{@name} shows what it promises" do
      {modules, printed} = with_io(fn -> Code.require_file(@path) end)

      for {module, _code} <- modules do
        :code.purge(module)
        :code.delete(module)
      end

      for pattern <- @patterns, do: assert(printed =~ Regex.compile!(pattern))
    end
  end
end
