defmodule DSPexWorker.Signature.ValidatorTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.Error
  alias DSPexWorker.Signature.{Definition, Validator}

  defmodule Person do
    defstruct [:name, :age]
  end

  defp input(type, value) do
    {:ok, definition} = Definition.of(%{inputs: [x: type], outputs: [y: :string]})
    Validator.validate_inputs(definition, %{x: value})
  end

  describe "Elixir's own terms" do
    test "become what JSON has before they are checked" do
      assert input(:string, :positive) == {:ok, %{"x" => "positive"}}
      assert input({:string, one_of: [:a, :b]}, :a) == {:ok, %{"x" => "a"}}
      assert input({:string, format: :date}, ~D[2026-01-31]) == {:ok, %{"x" => "2026-01-31"}}
      assert input({:string, format: "date-time"}, ~U[2026-01-31 12:30:00Z]) == {:ok, %{"x" => "2026-01-31T12:30:00Z"}}
      assert input({:list, :float}, {1, 2.5}) == {:ok, %{"x" => [1.0, 2.5]}}
      assert input(:map, a: 1, b: nil) == {:ok, %{"x" => %{"a" => 1, "b" => nil}}}
      assert input({:dict, :integer, :string}, %{1 => :a, -2 => "b"}) == {:ok, %{"x" => %{"1" => "a", "-2" => "b"}}}
      assert input({:list, :integer}, MapSet.new([1])) == {:ok, %{"x" => [1]}}

      assert input(:any, %{list: [], nothing: nil, truth: true}) ==
               {:ok, %{"x" => %{"list" => [], "nothing" => nil, "truth" => true}}}
    end

    test "an empty keyword list is an empty object, where no list may stand" do
      for type <- [:map, {:dict, :string, :integer}, {:object, properties: [a: {:string, optional: true}]}] do
        assert {:ok, %{"x" => %{}}} = input(type, [])
        assert {:ok, %{"x" => [%{}]}} = input({:list, type}, [[]])
        assert {:ok, %{"x" => %{}}} = input({:union, [:string, type]}, [])
        assert {:ok, %{"x" => []}} = input({:union, [type, :list]}, [])
      end

      assert input(:any, []) == {:ok, %{"x" => []}}
      assert {:error, %Error{message: "Field x: must be an object"}} = input(:map, [1])
      assert {:error, %Error{message: "Field x: missing (at /a)"}} = input({:object, properties: [a: :string]}, [])
    end

    test "nil is null, and true and false are no atoms" do
      assert input({:optional, :string}, nil) == {:ok, %{"x" => nil}}
      assert {:error, %Error{message: "Missing required field: x"}} = input(:string, nil)
      assert {:error, %Error{message: "Field x: must be a string"}} = input(:string, true)
      assert input(:boolean, false) == {:ok, %{"x" => false}}
    end

    test "what has no form in JSON is refused with its place, and raises nothing" do
      for wrong <- [self(), make_ref(), fn -> 1 end, <<255>>, %Person{}, [1 | 2], %{{1} => 2}, %{a: self()}] do
        assert {:error, %Error{code: :invalid_inputs, field: "x", problems: [%{path: "/inputs/x" <> _}]}} =
                 input(:any, wrong)
      end
    end

    test "inputs may be a map, a keyword list or a struct, and nothing else" do
      {:ok, definition} = Definition.of("name, age: int -> y")
      expected = {:ok, %{"name" => "Ada", "age" => 36}}
      assert Validator.validate_inputs(definition, %{"name" => "Ada", "age" => 36}) == expected
      assert Validator.validate_inputs(definition, name: "Ada", age: 36) == expected
      assert Validator.validate_inputs(definition, %Person{name: "Ada", age: 36}) == expected

      for wrong <- [nil, "a", 5, ["a"], [{"name", "Ada"}]] do
        assert {:error, %Error{code: :invalid_inputs, message: "inputs must be an object"}} =
                 Validator.validate_inputs(definition, wrong)
      end
    end

    test "no input makes an atom" do
      {:ok, definition} = Definition.of("a -> b")
      name = "no_atom_#{System.unique_integer([:positive])}"
      assert Validator.validate_outputs(definition, %{"b" => name, name => name}) == {:ok, %{"b" => name}}
      assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    end
  end

  describe "members of nested objects" do
    @line {:object, properties: [amount: {:float, default: 0}, text: :string]}

    defp output(type, value) do
      {:ok, definition} = Definition.of(%{inputs: [y: :string], outputs: [x: type]})
      with {:ok, %{x: taken}} <- Validator.validate_outputs(definition, %{"x" => value}), do: {:ok, taken}
    end

    test "have the keys that they were declared with, at any depth" do
      given = %{"text" => "a"}
      line = %{text: "a", amount: 0.0}

      assert output(@line, given) == {:ok, line}
      assert output({:optional, @line}, nil) == {:ok, nil}
      assert output({:list, {:list, @line}}, [[given], []]) == {:ok, [[line], []]}
      assert output({:dict, :string, @line}, %{"text" => given}) == {:ok, %{"text" => line}}
      assert output({:union, [:string, {:list, @line}]}, [given]) == {:ok, [line]}
      assert output({:object, properties: %{lines: {:list, @line}}}, %{"lines" => [given]}) == {:ok, %{lines: [line]}}
      assert output({:object, properties: %{"line" => @line}}, %{"line" => given}) == {:ok, %{"line" => line}}
      assert output(:map, %{"text" => %{"text" => "a"}}) == {:ok, %{"text" => %{"text" => "a"}}}
    end

    test "have those of the object that was taken, in a union" do
      types = [{:object, properties: [n: :integer]}, %{"type" => "object", "properties" => %{"n" => "float"}}]

      assert output({:union, types}, %{"n" => 1}) == {:ok, %{n: 1}}
      assert output({:union, types}, %{"n" => 1.0}) == {:ok, %{"n" => 1.0}}
    end

    test "have them in defaults and choices too" do
      choices = [%{"text" => "a", "amount" => 1}, %{"text" => "b"}]

      assert output({@line, default: %{text: "z"}}, nil) == {:ok, %{text: "z", amount: 0.0}}
      assert output({@line, one_of: choices}, %{"text" => "b"}) == {:ok, %{text: "b", amount: 0.0}}

      assert output({:object, properties: [one: {@line, default: [text: "z"]}]}, %{}) ==
               {:ok, %{one: %{text: "z", amount: 0.0}}}
    end

    test "are no other type by their keys, and are sent by their names" do
      texts = %{
        "type" => "object",
        "properties" => %{"amount" => %{"type" => "float", "default" => 0}, "text" => "string"}
      }

      {:ok, atoms} = Definition.of(%{inputs: [x: @line], outputs: [y: {:union, [@line, texts]}]})
      wire = Definition.to_wire(atoms)
      assert %{"properties" => %{"amount" => _, "text" => _}} = hd(wire["inputs"])["type"]
      assert hd(wire["outputs"])["type"] == hd(wire["inputs"])["type"]
      assert Validator.validate_inputs(atoms, x: %{text: "a"}) == {:ok, %{"x" => %{"text" => "a", "amount" => 0.0}}}
      assert Validator.validate_own_inputs(atoms, x: %{text: "a"}) == {:ok, %{x: %{text: "a", amount: 0.0}}}
    end

    test "that are missing are named with their place, not as a missing field" do
      assert {:error, %Error{message: "Field x: missing (at /1/text)", field: "x"}} =
               input({:list, @line}, [[text: "a"], [amount: 1]])
    end

    test "make no atom from a value" do
      name = "no_member_#{System.unique_integer([:positive])}"

      assert {:error, %Error{problems: [%{problem: "is no member of this object"}]}} =
               output(@line, %{"text" => "a", name => 1})

      assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    end
  end

  describe "hostile values" do
    test "many wrong items are not as many problems" do
      assert {:error, %Error{problems: problems}} = input({:list, :integer}, List.duplicate("x", 100_000))
      assert length(problems) == 100
    end

    test "a pattern that would run for years is left for the worker" do
      assert {:ok, _inputs} = input({:string, pattern: "^(a+)+$"}, String.duplicate("a", 40) <> "b")
    end

    test "a pattern that cannot be told here is left for the worker" do
      assert {:ok, _inputs} = input({:string, pattern: "^\\p{Emoji}$"}, "not one")
      assert {:ok, _inputs} = input({:string, pattern: "(?i)^\\p{Lu}$"}, "a")
    end
  end

  test "a regex is a pattern with its flags" do
    assert {:ok, _inputs} = input({:string, pattern: ~r/^ab$/i}, "AB")
    assert {:error, %Error{message: message}} = input({:string, pattern: ~r/^ab$/i}, "AC")
    assert message == "Field x: must match the pattern `(?i)^ab$`"
  end

  test "a range is a choice of integers" do
    assert {:ok, _inputs} = input({:integer, in: 1..5}, 5)
    assert {:error, %Error{message: "Field x: must be one of: 1, 2, 3, 4, 5"}} = input({:integer, in: 1..5}, 6)
  end
end
