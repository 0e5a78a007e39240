defmodule DSPexWorker.SignatureTest do
  use ExUnit.Case, async: true

  alias DSPexWorker.Error
  alias DSPexWorker.Signature.{Definition, Typespec}

  defmodule Sentiment do
    @moduledoc """
    Detects the sentiment
    of a text.

    And here is more, which is for people.
    """
    use DSPexWorker.Signature

    @labels ~w(positive negative neutral)

    signature do
      input :text, :string, desc: "Text to analyse", min_length: 1
      input :language, default: "en"
      output :sentiment, :string, one_of: @labels
      output :confidence, :probability
      output :spans, {:list, {:integer, min: 0}}, optional: true
    end
  end

  defmodule Arrow do
    @moduledoc false
    use DSPexWorker.Signature

    @labels [:good, :bad]

    signature (text: :string, limit: {:integer, [max: 2 * 5]} -> [label: {:atom, one_of: @labels}, score: :float])
  end

  defmodule Text do
    use DSPexWorker.Signature, description: "From a string"
    signature "text: :string, tags: list<string> -> sentiment: :string, confidence: probability, valid?: bool?"
  end

  defmodule Ast do
    use DSPexWorker.Signature

    @signature_ast {:->, [],
                    [
                      [{:query, :string}, {:context, {:list, :string}}],
                      [
                        {:answer, :string},
                        {:scores, {:dict, :string, :integer}},
                        {:p, :probability},
                        {:u, {:union, [:string, :integer]}}
                      ]
                    ]}
  end

  defmodule Nested do
    use DSPexWorker.Signature
    description("Reads an invoice")

    signature do
      for name <- [:page_one, :page_two], do: input(name)

      output :customer,
             {:object,
              properties: [
                name: {:string, min_length: 1},
                email: {:string, format: :email},
                age: {:integer, optional: true}
              ]}

      output :lines,
             {:list,
              %{type: :object, properties: %{article: :string, count: {:integer, min: 1}}, required: ["article"]}},
             min_items: 1

      output :due, {:optional, :string}, format: "date", pattern: ~r/^2/i
      output :either, "string | list<integer>"
      output :vector, {:embedding, dimensions: 2}
      output :by_day, {:dict, {:string, one_of: ~w(mon tue)}, {:list, :float}}
    end
  end

  defmodule Foreign do
    def __signature__ do
      %{inputs: [{:question, :string, []}], outputs: [{:answer, :string, [max_length: 5]}], module: __MODULE__}
    end
  end

  describe "a signature module" do
    test "is sent as the wire contract has it" do
      {:ok, definition} = Definition.of(Sentiment)

      assert Definition.to_wire(definition) == %{
               "name" => "Elixir.DSPexWorker.SignatureTest.Sentiment",
               "description" => "Detects the sentiment of a text.",
               "inputs" => [
                 %{
                   "name" => "text",
                   "type" => "string",
                   "description" => "Text to analyse",
                   "required" => true,
                   "constraints" => %{"min_length" => 1}
                 },
                 %{
                   "name" => "language",
                   "type" => "string",
                   "description" => "",
                   "required" => false,
                   "constraints" => %{},
                   "default" => "en"
                 }
               ],
               "outputs" => [
                 %{
                   "name" => "sentiment",
                   "type" => "string",
                   "description" => "",
                   "required" => true,
                   "constraints" => %{"enum" => ["positive", "negative", "neutral"]}
                 },
                 %{
                   "name" => "confidence",
                   "type" => "float",
                   "description" => "",
                   "required" => true,
                   "constraints" => %{"minimum" => 0.0, "maximum" => 1.0}
                 },
                 %{
                   "name" => "spans",
                   "type" => %{"type" => "list", "items" => %{"type" => "integer", "minimum" => 0}},
                   "description" => "",
                   "required" => false,
                   "constraints" => %{}
                 }
               ],
               "metadata" => %{"module" => "Elixir.DSPexWorker.SignatureTest.Sentiment"}
             }
    end

    test "has DSPex's shape for DSPex's tools" do
      assert %{inputs: inputs, outputs: outputs, module: Sentiment} = Sentiment.__signature__()
      assert inputs == Sentiment.input_fields()
      assert outputs == Sentiment.output_fields()
      assert {:text, :string, [description: "Text to analyse", min_length: 1]} in inputs
      assert {:language, :string, [default: "en"]} in inputs
      assert {:sentiment, :string, [enum: ["positive", "negative", "neutral"]]} in outputs
      assert {:confidence, :probability, []} in outputs
      assert {:spans, {:list, {:integer, min: 0}}, [optional: true]} in outputs
    end

    test "means the same when only its DSPex shape is known" do
      for module <- [Sentiment, Arrow, Text, Ast, Nested] do
        {:ok, definition} = Definition.of(module)
        {:ok, again} = Definition.of(module.__signature__())
        assert Definition.to_wire(again) == Definition.to_wire(definition)
      end
    end

    test "checks its inputs under its own keys, with defaults" do
      assert Sentiment.validate_inputs(%{text: "a"}) == {:ok, %{text: "a", language: "en"}}
      assert Sentiment.validate_inputs(text: "a", language: "de") == {:ok, %{text: "a", language: "de"}}
      assert {:error, %Error{code: :invalid_inputs, field: "text"}} = Sentiment.validate_inputs(%{"text" => ""})
    end

    test "checks its outputs under its own keys, all of them" do
      assert Sentiment.validate_outputs(%{"sentiment" => "positive", "confidence" => 1}) ==
               {:ok, %{sentiment: "positive", confidence: 1.0, spans: nil}}

      assert {:error, %Error{code: :output_invalid, problems: problems}} =
               Sentiment.validate_outputs(%{sentiment: "good", confidence: 2})

      assert Enum.map(problems, & &1.path) == ["/outputs/sentiment", "/outputs/confidence"]
    end

    test "describes itself in one line, as DSPex does" do
      assert Ast.describe() ==
               "query: string, context: list of string -> answer: string, scores: dict with string keys and integer values, " <>
                 "p: probability, u: union of string | integer"
    end

    test "gives schemas in the shapes of providers" do
      schema = Sentiment.to_json_schema()
      assert schema.additionalProperties == false
      assert schema.required == ["sentiment", "confidence"]
      assert schema.properties.confidence == %{type: "number", minimum: 0.0, maximum: 1.0}
      assert schema.properties.sentiment == %{type: "string", enum: ["positive", "negative", "neutral"]}

      assert schema.properties.spans == %{
               anyOf: [%{type: "array", items: %{type: "integer", minimum: 0}}, %{type: "null"}]
             }

      assert %{title: _, "$schema": _} = generic = Sentiment.to_json_schema(:generic)
      assert generic.properties == schema.properties
      assert_raise ArgumentError, fn -> Sentiment.to_json_schema(:other) end
      assert_raise ArgumentError, fn -> Sentiment.to_json_schema(:openai, :both) end
    end

    test "gives schemas of inputs and outputs apart, and never of both at once" do
      inputs = Sentiment.to_json_schema(:openai, :inputs)
      assert Sentiment.to_json_schema(:anthropic).input_schema == Map.delete(inputs, :description)
      assert inputs.properties.language == %{type: ["string", "null"], default: "en"}
      assert inputs.properties |> Map.keys() |> Enum.sort() == [:language, :text]

      outputs = Sentiment.to_json_schema()
      assert Sentiment.to_json_schema(:anthropic, :outputs).input_schema == Map.delete(outputs, :description)
      assert outputs.properties |> Map.keys() |> Enum.sort() == [:confidence, :sentiment, :spans]
    end

    test "is one line to who inspects it, as are its fields, its programs and their types" do
      {:ok, definition} = Definition.of(Sentiment)
      program = %DSPexWorker.Program{id: "a\nb", signature: definition, version: 3, warnings: ["w"], raw: %{"a" => 1}}
      fields = for number <- 10..39, do: {"a#{number}", {:object, properties: [text: :string]}}
      {:ok, wide} = Definition.of(%{inputs: fields, outputs: [b: :string]})

      assert inspect(program, pretty: true) =~
               ~r/\A#DSPexWorker.Program<"a\\nb", version 3, text: string, .* -> sentiment: string, .*, 1 warnings>\z/

      assert inspect(hd(definition.inputs)) == "#DSPexWorker.Signature.Field<text: string>"
      assert inspect(wide) =~ "a19: object, … 20 more -> b: string"

      for shown <- [program, %{program | fallback_used: true}, definition, wide, hd(wide.inputs), hd(wide.inputs).type] do
        refute inspect(shown, pretty: true) =~ "\n"
      end
    end

    test "names all that is wrong with its inputs, up to a bound" do
      many = for letter <- ~w(a b c d e f g h)a, do: {letter, :integer}
      {:ok, definition} = Definition.of(%{inputs: many, outputs: [label: :string]})
      wrong = for letter <- ~w(a b c d e f g)a, do: {letter, "x"}

      assert {:error, %Error{field: "h", problems: problems, message: message}} =
               DSPexWorker.Signature.Validator.validate_inputs(definition, wrong)

      assert length(problems) == 8

      assert message ==
               "Missing required field: h; Field a: must be an integer; Field b: must be an integer; " <>
                 "Field c: must be an integer; Field d: must be an integer; and 3 more"
    end

    test "asks whether an input that it does not have was meant for one that is missing" do
      {:ok, definition} = Definition.of("title, body -> label")

      assert {:error, %Error{message: "Missing required field: body; was it meant by `bdy`?"}} =
               DSPexWorker.Signature.Validator.validate_inputs(definition, %{title: "a", bdy: "b"})

      assert {:error, %Error{message: "Missing required field: body"}} =
               DSPexWorker.Signature.Validator.validate_inputs(definition, %{title: "a", text: "b"})
    end

    test "has its first paragraph as description, or what is said, or none" do
      assert Sentiment.__signature__().description == "Detects the sentiment of a text."
      assert Arrow.__signature__().description == ""
      assert Text.__signature__().description == "From a string"
      assert Ast.__signature__().description == ""
      assert Nested.__signature__().description == "Reads an invoice"
    end

    test "has types for its inputs and outputs, unless it declares them itself" do
      {:ok, definition} =
        Definition.of(
          "text, limit: int? -> label, scores: dict<string, float>, tags: list<string | integer>, more: any"
        )

      assert shown(definition.inputs, false) ==
               ~S[%{required("text") => String.t(), required("limit") => integer | nil}]

      outputs = shown(definition.outputs, true)
      assert outputs =~ ~S[required("scores") => %{optional(String.t()) => float}]
      assert outputs =~ ~S{required("tags") => [String.t() | integer]}
      assert outputs =~ ~S[required("more") => term]

      {:ok, nested} =
        Definition.of(%{inputs: [a: :string], outputs: [b: {:list, {:object, properties: [n: :integer]}}]})

      assert shown(nested.outputs, true) == "%{required(:b) => [%{required(:n) => integer}]}"

      assert [_module] = compile("signature \"a -> b\"\n@spec same(t) :: inputs\ndef same(any), do: any")
      assert [_module] = compile("signature \"a -> b\"\n@type t :: :mine")
    end
  end

  describe "the forms of a signature" do
    test "an arrow in brackets evaluates its options" do
      {:ok, definition} = Definition.of(Arrow)
      assert [%{key: :text}, %{key: :limit, constraints: %{"maximum" => 10}}] = definition.inputs
      assert [%{key: :label, constraints: %{"enum" => ["good", "bad"]}}, %{key: :score}] = definition.outputs
    end

    test "a string has atoms as keys, since it stands in the source" do
      {:ok, definition} = Definition.of(Text)
      assert Enum.map(definition.outputs, & &1.key) == [:sentiment, :confidence, :valid?]
      assert {:confidence, :probability, []} in Text.output_fields()
      assert {:tags, {:list, :string}, []} in Text.input_fields()
      assert {:valid?, {:optional, :boolean}, []} in Text.output_fields()
    end

    test "@signature_ast of DSPex is taken" do
      assert Ast.input_fields() == [{:query, :string, []}, {:context, {:list, :string}, []}]
      assert {:p, :probability, []} in Ast.output_fields()
    end

    test "types nest, with options at any depth" do
      outputs = %{
        customer: %{name: "Ada", email: "ada@example.org"},
        lines: [%{article: "paper"}],
        due: nil,
        either: [1],
        vector: {1, 0.5},
        by_day: %{mon: [1]}
      }

      assert {:ok, taken} = Nested.validate_outputs(outputs)

      assert taken == %{
               customer: %{name: "Ada", email: "ada@example.org", age: nil},
               lines: [%{article: "paper", count: nil}],
               due: nil,
               either: [1],
               vector: [1.0, 0.5],
               by_day: %{"mon" => [1.0]}
             }

      wrong = %{
        outputs
        | customer: %{name: "", email: "x"},
          lines: [],
          due: "1999-01-01",
          vector: [1],
          by_day: %{sun: []}
      }

      assert {:error, %Error{problems: problems}} = Nested.validate_outputs(wrong)

      assert Enum.map(problems, & &1.path) ==
               ~w(/outputs/customer/name /outputs/customer/email /outputs/lines /outputs/due /outputs/vector /outputs/by_day/sun)
    end

    test "fields may be made in a loop" do
      assert Enum.map(Nested.input_fields(), &elem(&1, 0)) == [:page_one, :page_two]
    end
  end

  describe "Definition.of/1" do
    test "takes any module in DSPex's shape" do
      assert {:ok, %Definition{module: Foreign, description: "", name: "Elixir." <> _} = definition} =
               Definition.of(Foreign)

      assert [%{name: "answer", key: :answer, constraints: %{"max_length" => 5}}] = definition.outputs
    end

    test "takes maps with atoms or strings as keys, and keeps the keys for the results" do
      atoms = %{
        name: "S",
        inputs: [%{name: :text, type: :string, constraints: [min: 1]}],
        outputs: [%{name: "score", type: {:list, :float}, constraints: %{max_items: 2}}]
      }

      strings = %{
        "name" => "S",
        "inputs" => [%{"name" => "text", "type" => "string", "constraints" => [["min", 1]]}],
        "outputs" => [%{"name" => "score", "type" => ["list", "float"], "constraints" => %{"max_items" => 2}}]
      }

      {:ok, one} = Definition.of(atoms)
      {:ok, other} = Definition.of(strings)
      assert Definition.to_wire(one) == Definition.to_wire(other)
      assert [%{key: :text}] = one.inputs
      assert [%{key: "text"}] = other.inputs
    end

    test "refuses what is no signature, and says so" do
      for wrong <- [nil, 5, [], {:a, :b}, %{}, NoSuchModule, Enum, %{inputs: [], outputs: []}, ~D[2026-01-31]] do
        assert {:error, %Error{code: :invalid_signature, message: message}} = Definition.of(wrong)
        assert message != ""
      end
    end

    test "names every field at fault" do
      wrong = %{inputs: [a: :strng, b: :string], outputs: [c: {:integer, min: 2, max: 1}, d: {:foo, :bar}]}
      assert {:error, %Error{code: :unknown_type, field: "a", problems: problems}} = Definition.of(wrong)

      assert Enum.map(problems, & &1.path) == [
               "/signature/inputs/0/type",
               "/signature/outputs/0/type/min",
               "/signature/outputs/1/type"
             ]
    end

    test "names every field at fault of a text too, and goes on behind it" do
      text = "a: strng, b: dict<string, integr>, c d, e -> f: list<string, g: flot"

      assert {:error, %Error{code: :unknown_type, field: "a"} = error} = Definition.of(text)
      assert length(error.problems) == 4

      for part <- [
            "Field a: unknown type `strng`",
            "Field b: unknown type `integr`",
            "field name `c d`",
            "`list<string"
          ] do
        assert error.message =~ part
      end

      assert {:error, %Error{code: :unknown_type, problems: [_one, _other]}} = Definition.of("a: strng -> ")
      assert {:error, %Error{code: :invalid_signature, problems: [_one]}} = Definition.of("a -> b -> c")
    end

    test "refuses a text for what is wrong first, though a limit is broken behind it" do
      fields = Enum.map_join(1..200, ", ", &"a#{&1}")
      assert {:error, %Error{code: :unknown_type, field: "b"}} = Definition.of("b: strng, #{fields} -> c")
    end

    test "warns of what has no effect" do
      {:ok, definition} = Definition.of(%{inputs: [a: {:string, shade: :dark}], outputs: [%{name: :b, colour: 1}]})

      assert definition.warnings == [
               "Field a: unknown constraint `shade` is kept and not enforced",
               "Field b: unknown key `colour` in the field is ignored"
             ]
    end

    test "makes no atoms from text" do
      name = "never_an_atom_#{System.unique_integer([:positive])}"
      {:ok, _definition} = Definition.of("#{name}: #{name} | string -> b") |> ok_or_error()
      {:ok, _definition} = Definition.of("#{name} -> b")
      assert_raise ArgumentError, fn -> String.to_existing_atom(name) end
    end

    test "leaves the warnings and limits of one definition out of the next" do
      {:error, _error} = Definition.of("a -> b: strng")
      assert {:ok, %Definition{warnings: []}} = Definition.of("a -> b")
      assert Process.get_keys() |> Enum.filter(&(&1 == DSPexWorker.Signature.Place)) == []
    end
  end

  describe "a mistake is a compile error at the field's line" do
    test "an unknown type" do
      assert_error(5, ~r/Field label: unknown type `strng`; did you mean `string`\?/, """
      signature do
        input :text
        output :label, :strng
      end
      """)
    end

    test "a constraint that contradicts another" do
      assert_error(4, ~r/Field text: .*no value is left/, """
      signature do
        input :text, :string, min: 3, max: 2
        output :label
      end
      """)
    end

    test "an option that is given twice, at depth" do
      assert_error(4, ~r/contradicts another/, """
      signature do
        input :text, {:list, {:string, [min: 3, min: 2]}}
        output :label
      end
      """)
    end

    test "lookaround and backreferences" do
      assert_error(4, ~r/look-around/, "signature do\n input :text, :string, pattern: \"(?=a)\"\n output :label\nend")
      assert_error(4, ~r/look-around/, "signature do\n input :text, :string, pattern: ~r/(?<!a)b/\n output :label\nend")

      assert_error(
        4,
        ~r/backreferences/,
        "signature do\n input :text, :string, pattern: ~S/(a)\\1/\n output :label\nend"
      )
    end

    test "a name that is used twice" do
      assert_error(5, ~r/the name is used twice/, "signature do\n input :text\n output :text\nend")
    end

    test "a name that is none" do
      assert_error(4, ~r/must not contain/, "signature do\n input :\"a[0]\"\n output :label\nend")
      assert_error(4, ~r/is an atom/, "signature do\n input \"text\"\n output :label\nend")
    end

    test "no outputs, and no signature" do
      assert_error(3, ~r/at least one output/, "signature do\n input :text\nend")
      assert_error(1, ~r/declares no signature/, "")
    end

    test "two signatures" do
      assert_error(4, ~r/declared twice/, "signature \"a -> b\"\nsignature \"c -> d\"")
    end

    test "a string that is no signature" do
      assert_error(3, ~r/exactly one `->`/, "signature \"text\"")
      assert_error(3, ~r/unknown type/, "signature \"text -> label: strng\"")
    end

    test "an arrow with a wrong type" do
      assert_error(3, ~r/Field b: unknown type/, "signature (a: :string -> [b: :strng])")
      assert_error(3, ~r/`name: type`/, "signature (:a -> [b: :string])")
    end

    test "options that are no keyword list" do
      assert_error(4, ~r/keyword list/, "signature do\n input :text, :string, 5\n output :label\nend")
    end

    test "a wrong @signature_ast" do
      assert_error(1, ~r/@signature_ast is/, "@signature_ast :wrong")
      assert_error(1, ~r/unknown type/, "@signature_ast {:->, [], [[a: :strng], [b: :string]]}")
    end
  end

  test "an unknown option is a warning of the compiler at its line" do
    warning =
      ExUnit.CaptureIO.capture_io(:stderr, fn ->
        compile("signature do\n input :text, :string, min_lenght: 1\n output :label\nend")
      end)

    assert warning =~ "Field text: unknown constraint `min_lenght` is kept and not enforced; did you mean `min_length`?"
    assert warning =~ ~r/sample\.ex:4: \S*Sample\w* \(module\)/
  end

  defp shown(fields, complete?), do: fields |> Typespec.of_fields(complete?) |> Macro.to_string()

  defp ok_or_error({:error, error}), do: {:ok, error}
  defp ok_or_error(other), do: other

  defp assert_error(line, message, body) do
    error = assert_raise CompileError, fn -> compile(body) end
    assert error.description =~ message
    assert {Path.basename(error.file), error.line} == {"sample.ex", line}
  end

  defp compile(body) do
    name = "DSPexWorker.SignatureTest.Sample#{System.unique_integer([:positive])}"
    Code.compile_string("defmodule #{name} do\n use DSPexWorker.Signature\n#{body}\nend", "sample.ex")
  end
end
