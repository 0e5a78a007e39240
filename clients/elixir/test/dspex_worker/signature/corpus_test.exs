defmodule DSPexWorker.Signature.CorpusTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.Signature.{Definition, Patterns, Validator}

  @path Path.expand("../../../../../tests/contract/values.json", __DIR__)
  @external_resource @path

  setup_all do
    {:ok, corpus} = @path |> File.read!() |> DSPexWorker.JSON.default().decode()
    {:ok, corpus: corpus}
  end

  describe "the worker's verdict" do
    test "on every valid value, with its type in JSON", %{corpus: corpus} do
      for %{"valid" => true} = case <- corpus["values"], side <- sides(case) do
        {:ok, definition} = case |> definition(side) |> Definition.of()
        assert {:ok, taken} = check(definition, side, values(case)), "#{case["about"]} (#{side})"
        assert taken === expected(case, side), "#{case["about"]} (#{side}): #{inspect(taken)}"
      end
    end

    test "on every invalid value, with the same problems in the same words", %{corpus: corpus} do
      for %{"valid" => false} = case <- corpus["values"], side <- sides(case) do
        {:ok, definition} = case |> definition(side) |> Definition.of()
        assert {:error, error} = check(definition, side, values(case)), "#{case["about"]} (#{side})"
        root = if case["values"], do: "/#{side}", else: "/#{side}/x"

        problems =
          for %{path: path, problem: problem} <- error.problems, do: {String.replace_prefix(path, root, ""), problem}

        assert problems == for(%{"at" => at, "problem" => problem} <- case["problems"], do: {at, problem}),
               case["about"]

        assert error.code == if(side == "inputs", do: :invalid_inputs, else: :output_invalid)
        # Of several problems the client names more than the first.
        assert String.starts_with?(error.message, Map.get(case, "error", ""))
        assert error.field == if(case["values"], do: case["field"], else: "x")
      end
    end

    test "on every definition, in canonical spelling", %{corpus: corpus} do
      for %{"valid" => true} = case <- corpus["definitions"] do
        assert {:ok, definition} = case |> definition("outputs") |> Definition.of(), inspect(case)
        wire = Definition.to_wire(definition)
        assert meaning(wire, case) === Map.take(case, Map.keys(meaning(wire, case))), inspect(case)
        assert {:ok, again} = Definition.of(wire)
        assert Definition.to_wire(again) === wire
      end
    end

    test "on every wrong definition, with its code", %{corpus: corpus} do
      for %{"valid" => false} = case <- corpus["definitions"] do
        assert {:error, error} = Definition.of(case["definition"]), case["about"]
        assert Atom.to_string(error.code) == case["code"], "#{case["about"]}: #{error.message}"
        assert [%{path: "/signature" <> _} | _] = error.problems
      end
    end

    test "on every pattern, and on what it is found in", %{corpus: corpus} do
      for %{"pattern" => pattern} = case <- corpus["patterns"] do
        field = %{"name" => "x", "constraints" => %{"pattern" => pattern}}
        read = Definition.of(%{"inputs" => [field], "outputs" => [%{"name" => "y"}]})
        assert match?({:ok, _}, read) == case["valid"], inspect({pattern, read})
        for text <- Map.get(case, "found", []), do: assert(Patterns.found?(pattern, text), inspect({pattern, text}))
        for text <- Map.get(case, "not_found", []), do: refute(Patterns.found?(pattern, text), inspect({pattern, text}))
      end
    end
  end

  test "the corpus is large enough to say something", %{corpus: corpus} do
    assert length(corpus["values"]) >= 200
  end

  defp sides(%{"side" => side}), do: [side]
  defp sides(_case), do: ["inputs", "outputs"]

  defp definition(%{"definition" => definition}, _side), do: definition

  defp definition(%{"field" => field}, side) do
    field = if is_map(field), do: Map.put(field, "name", "x"), else: %{"name" => "x", "type" => field}
    Map.put(%{"inputs" => [%{"name" => "y"}], "outputs" => [%{"name" => "y"}]}, side, [field])
  end

  defp values(%{"values" => values}), do: values
  defp values(%{"absent" => true}), do: %{}
  defp values(%{"value" => value}), do: %{"x" => value}

  defp expected(%{"values" => _, "normalised" => normalised}, _side), do: normalised
  defp expected(%{"out_absent" => true}, "inputs"), do: %{}
  defp expected(%{"normalised" => normalised}, _side), do: %{"x" => normalised}

  defp check(definition, "inputs", values), do: Validator.validate_inputs(definition, values)
  defp check(definition, "outputs", values), do: Validator.validate_outputs(definition, values)

  defp meaning(%{"outputs" => [output]}, %{"field" => _}), do: Map.take(output, ["type", "constraints"])
  defp meaning(wire, _case), do: Map.take(wire, ["inputs", "outputs"])
end
